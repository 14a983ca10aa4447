# SPDX-License-Identifier: Apache-2.0
"""A VM leaves nothing behind, whatever it did when it was closed."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvm_shim import Boot, MemoryFlag, ShimError, Space, Vm, supported_cpuid

pytestmark = pytest.mark.kvm

RAM = 2 << 20
CODE = 0x100000
SPIN = bytes.fromhex("ebfe")  # 1: jmp 1b
PORT_LOOP = bytes.fromhex("e680ebfc")  # 1: out %al, $0x80; jmp 1b
BOOT = Boot(entry=CODE, argument=0x7000, stack=0x8FF0, gdt=0x500, page_tables=0x9000)


def machine(code=SPIN, flags=None):
    vm = Vm()
    vm.add_memory(0, RAM, flags or MemoryFlag(0))
    vm.create_vcpu(0, 0)
    vm.set_cpuid(0, supported_cpuid())
    vm.write_memory(CODE, code)
    vm.enter_linux64(0, BOOT)
    return vm


def descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def mappings():
    """Flags of every mapping of the size of the guest's RAM that is not inherited by children."""
    found = []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Size:"):
            size = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:") and size == RAM and "dc" in line.split():
            found.append(set(line.split()[1:]))
    return found


def tasks():
    return {
        task.name: (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()
    }


def test_fifty_lives_leave_no_descriptor_and_no_mapping():
    before = descriptors()
    for _ in range(50):
        with machine():
            assert len(mappings()) == 1
    assert descriptors() == before
    assert mappings() == []


@pytest.mark.parametrize("code", [SPIN, PORT_LOOP], ids=["spinning", "exiting"])
def test_a_running_vm_can_be_closed(code):
    with machine(code) as vm:
        vm.start()
        vm.resume()
        while not vm.counters(0).first_run_ns:
            time.sleep(0.001)
        started = time.monotonic()
        vm.close()
        assert time.monotonic() - started < 30
        vm.close()


def test_a_vm_can_be_closed_in_every_state():
    for steps in (["start"], ["start", "resume", "pause"], ["start", "resume", "nmi"]):
        with machine() as vm:
            for step in steps:
                getattr(vm, step)()


def test_after_a_close_everything_is_ebadf():
    vm = machine()
    device = vm.debug_port(0x80)
    vm.close()
    for call in (
        vm.start,
        vm.pause,
        vm.nmi,
        vm.save,
        vm.next_event,
        device.save,
        device.stamps,
        lambda: vm.counters(0),
        lambda: vm.read_memory(0, 1),
        lambda: vm.bus_read(Space.PIO, 0x80, 1),
    ):
        with pytest.raises(ShimError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_close_waits_for_the_calls_of_other_threads():
    vm = machine(PORT_LOOP)
    vm.start()
    vm.resume()
    errors = []

    def toggle():
        try:
            while True:
                try:
                    vm.pause()
                    vm.resume()
                except ShimError as ex:
                    if ex.errno == errno.EBADF:
                        raise
        except ShimError as ex:
            errors.append(ex.errno)

    thread = threading.Thread(target=toggle)
    thread.start()
    while vm.counters(0).exits["interrupted"] < 3:
        time.sleep(0.001)
    vm.close()
    thread.join(20)
    assert errors == [errno.EBADF]


def test_threads_are_named_and_take_no_signal():
    handlers = [signal.getsignal(number) for number in range(1, signal.NSIG)]
    with machine() as vm:
        vm.start()
        vm.resume()
        # KVM may have a thread of its own in the process, for large pages.
        (task,) = (task for task, name in tasks().items() if name == "vcpu0")
        status = (Path("/proc/self/task") / task / "status").read_text()
        blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
            assert blocked & 1 << (number - 1)
    assert [signal.getsignal(number) for number in range(1, signal.NSIG)] == handlers
    # KVM's own ends by itself, a moment after its VM.
    assert "vcpu0" not in tasks().values()


def test_a_signal_of_the_process_does_not_disturb_the_guest():
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    try:
        with machine() as vm:
            vm.start()
            vm.resume()
            while not vm.counters(0).first_run_ns:
                time.sleep(0.001)
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGUSR1)
            vm.pause()
            assert vm.counters(0).exits["interrupted"] == 1
            assert vm.next_event() is None
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught


@pytest.mark.parametrize("flags", [MemoryFlag(0), MemoryFlag.THP, MemoryFlag.SHARED])
def test_guest_ram_is_out_of_reach_of_merging_and_core_dumps(flags):
    with machine(flags=flags):
        (vm_flags,) = mappings()
    assert "mg" not in vm_flags  # mergeable by KSM
    assert "dd" in vm_flags  # not in a core dump; mappings() has seen that it is in no child
    assert ("sh" in vm_flags) == bool(flags & MemoryFlag.SHARED)


def test_shared_ram_is_a_sealed_memfd():
    with machine(flags=MemoryFlag.SHARED) as vm:
        vm.write_memory(RAM - 5, b"hello")
        (memfd,) = (
            Path(f"/proc/self/fd/{number}")
            for number in descriptors()
            if "guest-ram" in os.path.realpath(f"/proc/self/fd/{number}")
        )
        with memfd.open("r+b") as shared:
            shared.seek(RAM - 5)
            assert shared.read() == b"hello"
            with pytest.raises(PermissionError):
                shared.truncate(0)


@pytest.mark.parametrize("flags", [MemoryFlag(0), MemoryFlag.SHARED])
def test_guest_ram_has_the_alignment_that_huge_pages_need(flags):
    with machine(flags=flags):
        maps = Path("/proc/self/maps").read_text()
        starts = [
            int(start, 16)
            for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE)
            if int(end, 16) - int(start, 16) == RAM
        ]
    assert any(start % RAM == 0 for start in starts)


def test_a_process_may_end_with_a_guest_running():
    script = (
        "import time; from tests.integration.functional.test_shim_lifetime import machine\n"
        "vm = machine(); vm.start(); vm.resume()\n"
        "while not vm.counters(0).first_run_ns: time.sleep(0.001)\n"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", script], check=False, cwd=root, timeout=30)
    assert run.returncode == 0
