# SPDX-License-Identifier: Apache-2.0
"""The loss of one process while a Linux guest runs does not hurt the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import ApiProcess
from tests.support.linux import LinuxVm
from tests.support.processes import Worker, start_worker

pytestmark = [pytest.mark.linux, pytest.mark.timeout(1500)]

COUNT = r"VELUM-COUNT (\d+) .*"
READS = {"vmm.ping", "vm.info", "vm.counters"}


def caller(api: ApiProcess) -> Callable[..., Any]:
    """Return a function that performs an operation over HTTP, which is to succeed."""

    def call(operation: str, body: Any = None) -> Any:
        response = api.request("GET" if operation in READS else "PUT", operation, body)
        assert response.status in {200, 204}, response.body
        return response.json if response.body else None

    return call


def test_guest_goes_on_while_the_api_is_killed(tmp_path: Path) -> None:
    """And the next API process finds it as it is."""
    with start_worker(tmp_path) as worker:
        with ApiProcess(tmp_path) as api:
            vm = LinuxVm(caller(api), tmp_path, do="count")
            vm.boot()
            before = int(vm.expect(COUNT)[1])
            assert api.stop(signal.SIGKILL) == -signal.SIGKILL
        vm.skip_output()
        meanwhile = int(vm.expect(COUNT)[1])
        assert meanwhile > before
        with ApiProcess(tmp_path) as api:
            call = caller(api)
            assert call("vm.info")["state"] == "Running"
            assert call("vmm.ping")["pid"] == worker.pid
            vm.skip_output()
            assert int(vm.expect(COUNT)[1]) > meanwhile
            call("vm.delete")


def test_api_survives_a_killed_worker(tmp_path: Path) -> None:
    """It says at once that nobody is there, and finds the next worker by itself."""
    with ApiProcess(tmp_path) as api:
        with start_worker(tmp_path) as worker:
            vm = LinuxVm(caller(api), tmp_path, do="count")
            vm.boot()
            vm.expect(COUNT)
            assert worker.stop(signal.SIGKILL) == -signal.SIGKILL
            began = time.monotonic()
            for operation in ("vmm.ping", "vm.info"):
                response = api.request("GET", operation)
                assert response.status == 503
                assert response.json["code"] == "vmm_unavailable"
            # Not after the time that an answer may take.
            assert time.monotonic() - began < 10.0
        with start_worker(tmp_path) as worker:
            assert recovered(api, worker)
            response = api.request("GET", "vm.info")
            assert (response.status, response.json["code"]) == (404, "vm_not_created")
            with LinuxVm(caller(api), tmp_path, do="stay") as vm:
                vm.boot()


def recovered(api: ApiProcess, worker: Worker) -> bool:
    """Tell whether the API reaches this worker."""
    response = api.request("GET", "vmm.ping")
    return response.status == 200 and response.json["pid"] == worker.pid
