# SPDX-License-Identifier: Apache-2.0
"""A guest that stops by itself, and what ``vm.info`` says of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipc_protocol.messages import GuestStop, VmInfo, VmState
from tests.support.guests import build
from tests.support.processes import Worker, eventually, vm_config

pytestmark = pytest.mark.kvm


class Kernel:
    """A path whose guest can be exchanged between two boots."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, guest: str) -> Path:
        new = self.path.with_suffix(".new")
        new.symlink_to(build(guest))
        new.replace(self.path)
        return self.path


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "kernel")


def stop_of(info: VmInfo) -> GuestStop:
    assert info.last_stop is not None
    assert info.last_stop.time == pytest.approx(time.time(), abs=60)
    return info.last_stop


def test_power_off(worker: Worker, kernel: Kernel) -> None:
    config = vm_config(kernel.install("poweroff"))
    worker.call("vm.create", config)
    before = worker.info()
    assert (before.boots, before.last_stop) == (0, None)
    worker.call("vm.boot")
    info = worker.wait_for(state=VmState.SHUTDOWN)
    stop = stop_of(info)
    assert (stop.reason, stop.source) == ("power_off", "acpi_pm")
    assert info.config == before.config
    # It can be booted again, and the last stop stays on record.
    kernel.install("hello")
    worker.call("vm.boot")
    info = worker.info()
    assert (info.state, info.boots, info.last_stop) == (VmState.RUNNING, 2, stop)
    worker.call("vm.shutdown")
    assert worker.info().last_stop == stop
    worker.call("vm.delete")
    worker.call("vm.create", config)
    assert worker.info() == before


@pytest.mark.parametrize(("guest", "source"), [("reset", "i8042"), ("acpi_reset", "acpi_pm")])
def test_a_reset_reboots_in_place(
    worker: Worker, kernel: Kernel, tmp_path: Path, guest: str, source: str
) -> None:
    serial = {"mode": "File", "file": str(tmp_path / "console")}
    worker.call("vm.create", vm_config(kernel.install(guest), serial=serial))
    worker.call("vm.boot")
    info = worker.wait_until(lambda info: info.boots >= 2, "the guest is booted again")
    assert info.state is VmState.RUNNING
    stop = stop_of(info)
    assert (stop.reason, stop.source) == ("reset", source)
    kernel.install("hello")
    console = tmp_path / "console"
    eventually(lambda: "hello from the guest" in console.read_text(), "the new guest speaks")
    # What the guest said before is still there: it is one console over all boots.
    assert "reset" in console.read_text()


def test_a_triple_fault_is_a_reset_and_on_record(worker: Worker, kernel: Kernel) -> None:
    worker.call("vm.create", vm_config(kernel.install("triplefault")))
    worker.call("vm.boot")
    info = worker.wait_until(lambda info: info.boots >= 2, "the guest is booted again")
    assert info.state is VmState.RUNNING
    stop = stop_of(info)
    assert (stop.reason, stop.source) == ("triple_fault", "kvm")
    assert "vCPU 0" in stop.detail


def test_what_kvm_cannot_run_stops_the_vm(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("badjump")))
    worker.call("vm.boot")
    info = worker.wait_for(state=VmState.SHUTDOWN)
    stop = stop_of(info)
    assert stop.reason == "internal_error"
    assert "rip=0xd0000000" in stop.detail
    assert "rax=0x5ca1ab1e" in stop.detail
    assert worker.call("vmm.ping").pid == worker.pid


def test_a_guest_that_resets_for_ever_does_not_keep_the_host_busy(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("reset")))
    worker.call("vm.boot")
    # By then it waits for a second: long enough for what follows.
    eventually(
        lambda: worker.read_log().count("the guest resets again and again") == 3,
        "the guest is slowed down",
    )
    assert worker.info().state is VmState.RUNNING
    # Waiting for its next boot it can be paused, resumed and shut down like any other.
    worker.call("vm.pause")
    assert worker.info().state is VmState.PAUSED
    worker.call("vm.resume")
    worker.call("vm.pause")
    boots = worker.info().boots
    worker.wait_for(boots=boots + 1, state=VmState.PAUSED)
    # A guest that was paused is paused in its new life, too.
    time.sleep(0.2)
    assert worker.info().boots == boots + 1
    worker.call("vm.resume")
    worker.wait_for(boots=boots + 2, state=VmState.RUNNING)
    worker.call("vm.shutdown")
    assert worker.info().state is VmState.CREATED


def test_a_guest_that_cannot_be_booted_again_is_shut_down(worker: Worker, tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "kernel")
    worker.call("vm.create", vm_config(kernel.install("reset")))
    worker.call("vm.boot")
    kernel.path.unlink()
    info = worker.wait_for(state=VmState.SHUTDOWN)
    stop = stop_of(info)
    assert stop.reason == "reset"
    assert "cannot be booted again" in stop.detail
    assert str(kernel.path) in stop.detail
    kernel.install("hello")
    worker.call("vm.boot")
    assert worker.info().state is VmState.RUNNING


def test_the_power_button(worker: Worker, tmp_path: Path) -> None:
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    worker.call("vm.create", vm_config(build("button"), serial=serial))
    worker.call("vm.boot")
    eventually(lambda: "button ready" in console.read_text(), "the guest listens")
    worker.call("vm.power-button")
    worker.wait_for(state=VmState.SHUTDOWN)
    assert "flags 08" in console.read_text()


def test_the_power_button_of_a_paused_guest_is_kept(worker: Worker, tmp_path: Path) -> None:
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    worker.call("vm.create", vm_config(build("button"), serial=serial))
    worker.call("vm.boot")
    eventually(lambda: "button ready" in console.read_text(), "the guest listens")
    worker.call("vm.pause")
    worker.call("vm.power-button")
    assert worker.info().state is VmState.PAUSED
    worker.call("vm.resume")
    worker.wait_for(state=VmState.SHUTDOWN)


def test_nmi(worker: Worker, tmp_path: Path) -> None:
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    worker.call("vm.create", vm_config(build("nmi"), serial=serial))
    worker.call("vm.boot")
    eventually(lambda: "nmi ready" in console.read_text(), "the guest waits")
    worker.call("vm.nmi")
    eventually(lambda: "nmi 1" in console.read_text(), "the first NMI arrives")
    worker.call("vm.pause")
    worker.call("vm.nmi")
    worker.call("vm.resume")
    eventually(lambda: "nmi 2" in console.read_text(), "an NMI while paused arrives later")
