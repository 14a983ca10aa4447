# SPDX-License-Identifier: Apache-2.0
"""What a guest does that Python hears of: one eventfd, one queue."""

import errno
import select
import threading

import pytest

from kvm_shim import EventKind, ShimError
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

MAGIC = 0x5CA1AB1E


@pytest.mark.parametrize(
    ("name", "kind", "source"),
    [
        ("reset", EventKind.RESET, "i8042"),
        ("acpi_reset", EventKind.RESET, "acpi_pm"),
        ("poweroff", EventKind.POWER_OFF, "acpi_pm"),
    ],
)
def test_a_guest_that_stops(name, kind, source):
    with GuestVm(name) as guest:
        assert guest.vm.next_event() is None
        guest.run()
        event = guest.expect_event(kind, source)
        assert event.vcpu == 0
        assert event.registers is None
        assert guest.vm.next_event() is None
        assert not select.select([guest.vm.event_fd], [], [], 0)[0]


def test_a_triple_fault_comes_with_registers():
    with GuestVm("triplefault") as guest:
        guest.run()
        event = guest.expect_event(EventKind.TRIPLE_FAULT, "kvm")
        assert guest.vm.counters(0).exits["shutdown"] == 1
        assert event.registers is not None


def test_an_internal_error_comes_with_registers():
    with GuestVm("badjump") as guest:
        guest.run()
        event = guest.expect_event(EventKind.INTERNAL_ERROR, "kvm_internal")
        assert event.vcpu == 0
        assert event.registers is not None
        assert event.registers.rip == 0xD0000000
        assert event.registers.rax == MAGIC
        assert guest.vm.counters(0).exits["error"] == 1


def test_no_guest_instruction_runs_after_a_stop():
    """One vCPU counts for ever, another stops the machine: the count stands still."""
    with GuestVm("count", vcpus=2, cmdline="stop=5000") as guest:
        guest.run()
        guest.expect_power_off()
        counts = guest.counts()
        assert counts[1] > 0
        assert not select.select([guest.vm.event_fd], [], [], 0.05)[0]
        assert guest.counts() == counts


def test_readers_survive_a_close():
    """Counters and events may be asked for while another thread closes the VM."""
    guest = GuestVm("count")
    seen = []

    def read():
        try:
            while True:
                guest.vm.counters(0)
                guest.vm.next_event()
        except ShimError as ex:
            seen.append(ex.errno)

    readers = [threading.Thread(target=read) for _ in range(2)]
    with guest:
        guest.run()
        for reader in readers:
            reader.start()
        guest.wait_for_counts_above([1000])
    for reader in readers:
        reader.join(10)
    assert seen == [errno.EBADF, errno.EBADF]
