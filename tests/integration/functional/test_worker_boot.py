# SPDX-License-Identifier: Apache-2.0
"""Boots, repeated and failed: what they leave, and what the worker does meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmState
from tests.support.guests import build
from tests.support.processes import (
    DEADLINE,
    Worker,
    eventually,
    slow_memory,
    start_worker,
    vm_config,
)

pytestmark = pytest.mark.kvm


def holdings(worker: Worker) -> tuple[list[str], list[str]]:
    # Its loop answers this after it has let go of what the last operation closed.
    worker.call("vmm.ping")
    return worker.descriptors(), worker.threads()


def test_boot_shutdown_boot(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("hello")))
    before = None
    for boots in (1, 2, 3):
        worker.call("vm.boot")
        info = worker.info()
        assert (info.state, info.boots) == (VmState.RUNNING, boots)
        worker.call("vm.shutdown")
        assert worker.info().state is VmState.CREATED
        if before is not None:
            eventually(lambda was=before: holdings(worker) == was, "nothing is left of a boot")
        before = holdings(worker)


def test_reboot_and_delete_leave_nothing(worker: Worker) -> None:
    before = None
    for _ in range(2):
        worker.call("vm.create", vm_config(build("hello"), serial={"mode": "Pty"}))
        worker.call("vm.boot")
        path = worker.info().config.serial.file
        worker.call("vm.reboot")
        assert worker.info().boots == 2
        assert worker.info().config.serial.file == path
        worker.call("vm.delete")
        if before is not None:
            eventually(lambda was=before: holdings(worker) == was, "nothing is left of a VM")
        before = holdings(worker)


def kernel(path: Path) -> dict[str, Any]:
    return vm_config(path)


def initramfs(path: Path) -> dict[str, Any]:
    return vm_config(build("hello"), payload={"initramfs": str(path)})


def serial_file(path: Path) -> dict[str, Any]:
    return vm_config(build("hello"), serial={"mode": "File", "file": str(path)})


def serial_socket(path: Path) -> dict[str, Any]:
    return vm_config(build("hello"), serial={"mode": "Socket", "socket": str(path)})


def memory(_: Path) -> dict[str, Any]:
    return vm_config(build("hello"), memory={"size": 1 << 45})


def cmdline(_: Path) -> dict[str, Any]:
    return vm_config(build("hello"), payload={"cmdline": "x" * 65536})


def text(path: Path) -> None:
    path.write_text("#!/bin/sh\n" * 1000)


def much(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 20)


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("place", "configuration", "code"),
    [
        (nothing, kernel, ErrorCode.FILE_UNAVAILABLE),
        (Path.mkdir, kernel, ErrorCode.FILE_UNAVAILABLE),
        (os.mkfifo, kernel, ErrorCode.FILE_UNAVAILABLE),
        (text, kernel, ErrorCode.INVALID_KERNEL),
        (Path.touch, kernel, ErrorCode.INVALID_KERNEL),
        (nothing, initramfs, ErrorCode.FILE_UNAVAILABLE),
        (much, initramfs, ErrorCode.INITRAMFS_TOO_LARGE),
        (nothing, cmdline, ErrorCode.CMDLINE_TOO_LONG),
        (nothing, memory, ErrorCode.MEMORY_UNAVAILABLE),
        (Path.mkdir, serial_file, ErrorCode.FILE_UNAVAILABLE),
        (text, serial_socket, ErrorCode.HOST_RESOURCE),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_failed_boot_leaves_the_configuration_and_nothing_else(
    worker: Worker,
    tmp_path: Path,
    place: Callable[[Path], None],
    configuration: Callable[[Path], dict[str, Any]],
    code: ErrorCode,
) -> None:
    path = tmp_path / "x"
    place(path)
    worker.call("vm.create", configuration(path))
    created = worker.info()
    assert worker.error("vm.boot").code is code
    before = holdings(worker)
    error = worker.error("vm.boot")
    assert error.code is code
    assert error.message
    eventually(lambda: holdings(worker) == before, "nothing is left of a failed boot")
    assert worker.info() == created
    # And the worker is as good as new.
    worker.call("vm.delete")
    worker.call("vm.create", vm_config(build("hello")))
    worker.call("vm.boot")
    assert worker.info().state is VmState.RUNNING


def test_a_boot_without_kvm(tmp_path: Path) -> None:
    with start_worker(tmp_path, "--kvm", tmp_path / "kvm") as worker:
        worker.call("vm.create", vm_config(build("hello")))
        error = worker.error("vm.boot")
        assert error.code is ErrorCode.KVM_UNAVAILABLE
        assert str(tmp_path / "kvm") in error.message
        assert worker.info().state is VmState.CREATED


def test_a_failed_reboot_leaves_the_configuration(worker: Worker, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(build("hello").read_bytes())
    worker.call("vm.create", vm_config(kernel))
    worker.call("vm.boot")
    kernel.rename(tmp_path / "away")
    assert worker.error("vm.reboot").code is ErrorCode.FILE_UNAVAILABLE
    assert worker.info().state is VmState.CREATED
    (tmp_path / "away").rename(kernel)
    worker.call("vm.boot")
    assert worker.info().state is VmState.RUNNING


def test_counters(worker: Worker) -> None:
    worker.call(
        "vm.create",
        vm_config(build("hello"), cpus={"boot_vcpus": 2, "max_vcpus": 2}),
    )
    worker.call("vm.boot")

    def spoke() -> dict[str, dict[str, int]] | None:
        counters: dict[str, dict[str, int]] = worker.call("vm.counters")
        said = counters["__serial"]["transmitted"] == len("hello from the guest\n")
        return counters if said else None

    counters = eventually(spoke, "the guest said hello")
    assert counters["__vcpu0"]["exits_io"] >= len("hello from the guest\n")
    assert counters["__vcpu0"]["unclaimed_io"] == 0
    assert "__vcpu1" in counters
    assert counters["__boot"]["first_instruction_us"] > 0


def test_pause_stops_a_guest_that_counts(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("count")))
    worker.call("vm.boot")

    def exits() -> int:
        counters: dict[str, dict[str, int]] = worker.call("vm.counters")
        return counters["__serial"]["transmitted"]

    start = exits()
    eventually(lambda: exits() > start, "the guest counts")
    worker.call("vm.pause")
    paused = exits()
    time.sleep(0.2)
    assert exits() == paused
    worker.call("vm.resume")
    eventually(lambda: exits() > paused, "the guest counts again")


@pytest.fixture
def slow_boot(worker: Worker) -> Worker:
    """A worker whose boot takes a while: all of the guest's memory is touched."""
    worker.call("vm.create", vm_config(build("hello"), memory=slow_memory()))
    return worker


def test_reads_are_answered_and_another_boot_refused_while_one_runs(slow_boot: Worker) -> None:
    with ThreadPoolExecutor(2) as others:
        boots = [others.submit(slow_boot.call, "vm.boot") for _ in range(2)]
        done, running = wait(boots, DEADLINE, FIRST_COMPLETED)
        refused = done.pop().exception()
        assert slow_boot.call("vmm.ping").pid == slow_boot.pid
        state = slow_boot.info().state
        assert isinstance(refused, VmFailure)
        assert refused.error.code is ErrorCode.OPERATION_IN_PROGRESS
        assert state is VmState.CREATED, "the boot was over before it could be looked at"
        assert running.pop().result(DEADLINE) is None
    assert slow_boot.info().state is VmState.RUNNING


def test_an_operation_whose_caller_gave_up_still_completes(slow_boot: Worker) -> None:
    with pytest.raises(VmFailure) as caught:
        slow_boot.call("vm.boot", timeout=0.05)
    assert caught.value.error.code is ErrorCode.VMM_TIMEOUT
    slow_boot.wait_for(state=VmState.RUNNING)


def test_what_waited_too_long_is_not_done(slow_boot: Worker) -> None:
    with ThreadPoolExecutor(1) as other:
        boot = other.submit(slow_boot.call, "vm.boot")
        # The boot is the first that the worker sees: its thread is there once it runs.
        eventually(lambda: "guest-ram" in str(slow_boot.descriptors()), "the boot is under way")
        with pytest.raises(VmFailure) as caught:
            slow_boot.call("vm.delete", timeout=0.01)
        assert caught.value.error.code is ErrorCode.VMM_TIMEOUT
        assert boot.result(DEADLINE) is None
    # The next is done after what waited before it.
    slow_boot.call("vm.power-button")
    assert slow_boot.info().state is VmState.RUNNING


def test_sigterm_during_a_boot(slow_boot: Worker, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as other:
        boot = other.submit(slow_boot.call, "vm.boot")
        eventually(lambda: "guest-ram" in str(slow_boot.descriptors()), "the boot is under way")
        assert slow_boot.stop() == 0
        # Its caller hears that it was done, or that the worker is gone.
        failure = boot.exception(DEADLINE)
        assert failure is None or isinstance(failure, VmFailure)
    assert [path.name for path in tmp_path.iterdir()] == ["default.log"]
