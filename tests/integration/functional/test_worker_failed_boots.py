# SPDX-License-Identifier: Apache-2.0
"""Boots that fail at each step there is, and what they leave behind: nothing."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmState
from tests.support.guests import build
from tests.support.processes import Worker, make_file, start_worker, vm_config

pytestmark = pytest.mark.kvm

MIB = 1 << 20
FEWEST = 8
"""Descriptors that the worker's loop polls in any case: poll(2) takes no more than may be open."""


def left(worker: Worker) -> tuple[list[str], list[str]]:
    """Return descriptors and threads, once the loop has closed its copies of what was watched."""
    worker.info()
    return worker.descriptors(), worker.threads()


def parts(directory: Path) -> dict[str, Any]:
    limit = {"ops": {"size": 1000, "refill_time": 100}}
    return {
        "serial": {"mode": "Socket", "socket": str(directory / "serial.sock")},
        "console": {"mode": "Pty"},
        "disks": [
            {"path": make_file(directory / "a.raw", MIB), "rate_limiter_config": limit},
            {"path": make_file(directory / "b.raw", MIB), "disable_io_uring": True},
        ],
        "rng": {"src": make_file(directory / "entropy", MIB)},
        "pmem": [{"file": make_file(directory / "p.pmem", 2 * MIB)}],
        "balloon": {"size": 0, "statistics": True},
        "watchdog": True,
        "pvpanic": True,
    }


@contextmanager
def few_descriptors(worker: Worker, limit: int) -> Iterator[None]:
    """Let the worker open no descriptor from a number on."""
    soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))


def boot_with_each_number_of_descriptors(worker: Worker, config: dict[str, Any]) -> int:
    """Boot with more and more descriptors until it works; return how often it did not."""
    # The first VM loads what stays loaded.
    worker.call("vm.create", config)
    worker.call("vm.boot")
    worker.call("vm.shutdown")
    before = left(worker)
    for limit in range(FEWEST, 1024):
        try:
            with few_descriptors(worker, limit):
                worker.call("vm.boot")
        except VmFailure as ex:
            error = ex.error
        else:
            break
        assert error.code in (ErrorCode.HOST_RESOURCE, ErrorCode.FILE_UNAVAILABLE), error
        assert os.strerror(errno.EMFILE) in " ".join((error.message, *error.causes)), error
        assert worker.info().state is VmState.CREATED
        assert left(worker) == before, error
    worker.call("vm.shutdown")
    assert left(worker) == before
    return limit - FEWEST


def test_with_each_number_of_descriptors(worker: Worker, tmp_path: Path) -> None:
    config = vm_config(build("count"), **parts(tmp_path))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert boot_with_each_number_of_descriptors(worker, config) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.usefixtures("network")
def test_networks_with_each_number_of_descriptors(tmp_path: Path) -> None:
    net = [{"tap": "velum0", "vhost": False}, {"num_queues": 4}]
    cpus = {"boot_vcpus": 2, "max_vcpus": 2}
    config = vm_config(build("count"), net=net, cpus=cpus, console={"mode": "Off"})
    with start_worker(tmp_path) as worker:
        interfaces = socket.if_nameindex()
        assert boot_with_each_number_of_descriptors(worker, config) > 20
        assert socket.if_nameindex() == interfaces


def test_a_reboot_that_fails_leaves_nothing_of_the_boot_before(
    worker: Worker, tmp_path: Path
) -> None:
    config = vm_config(build("count"), **parts(tmp_path))
    files = sorted(path.name for path in tmp_path.iterdir())
    worker.call("vm.create", config)
    worker.call("vm.boot")
    worker.call("vm.shutdown")
    before = left(worker)
    worker.call("vm.boot")
    with few_descriptors(worker, 40):
        error = worker.error("vm.reboot")
    assert error.code is ErrorCode.HOST_RESOURCE
    assert worker.info().state is VmState.CREATED
    assert left(worker) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    worker.call("vm.boot")
    assert worker.info().boots == 3
