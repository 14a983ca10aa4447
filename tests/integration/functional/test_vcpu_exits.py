# SPDX-License-Identifier: Apache-2.0
"""Port and MMIO accesses that leave the guest, and what is counted of them."""

import time

import pytest

from kvm_shim import Space
from tests.support.machines import GuestVm
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm


def test_unknown_ports_read_all_ones_in_every_size():
    with GuestVm("ports") as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"insl ffffffffffffffff\n")
        assert guest.console.output.splitlines() == [
            b"in8 ff",
            b"in16 ffff",
            b"in32 ffffffff",
            b"string output",
            b"insl ffffffffffffffff",
        ]
        counters = guest.vm.counters(0)
        # Three in, three out, and two units of one string instruction.
        assert counters.unclaimed_io == 8
        assert counters.unclaimed_mmio == 0
        assert counters.exits["mmio"] == 0


def test_unknown_addresses_read_all_ones_in_every_size():
    with GuestVm("mmio") as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"movsq ffffffffffffffff\n")
        assert guest.console.output.splitlines() == [
            b"read8 ff",
            b"read16 ffff",
            b"read32 ffffffff",
            b"read64 ffffffffffffffff",
            b"unaligned ffffffff",
            b"crossing ffffffff",
            b"movsq ffffffffffffffff",
        ]
        counters = guest.vm.counters(0)
        # Five reads, the two halves of the one that crosses a page, four writes, two quads.
        assert counters.unclaimed_mmio == 13
        assert counters.exits["mmio"] == 13


def test_exits_are_counted_by_kind():
    with GuestVm("hello") as guest:
        assert guest.vm.counters(0).first_run_ns == 0
        before = time.monotonic_ns()
        guest.run()
        guest.console.expect(b"hello from the guest\n")
        guest.vm.pause()
        counters = guest.vm.counters(0)
        # Each character is one read of the line status and one write of the data.
        assert counters.exits["io"] == 2 * len(guest.console.output)
        assert counters.exits["mmio"] == 0
        assert counters.exits["shutdown"] == counters.exits["error"] == 0
        assert counters.unclaimed_io == 0
        assert before <= counters.first_run_ns <= time.monotonic_ns()


def test_the_cpu_time_of_a_vcpu_is_its_own():
    with GuestVm("count", vcpus=2) as guest:
        assert guest.vm.counters(0).cpu_ns == 0
        guest.run()
        first = [guest.vm.counters(index).cpu_ns for index in range(2)]
        wait_until(
            lambda: all(guest.vm.counters(index).cpu_ns > first[index] for index in range(2))
        )
        guest.vm.pause()
        used = sum(guest.vm.counters(index).cpu_ns for index in range(2))
        assert used <= time.process_time_ns()


def test_the_bus_can_be_asked_from_outside():
    with GuestVm(None) as guest:
        for size in (1, 2, 4):
            assert guest.vm.bus_read(Space.PIO, 0x5000, size) == (1 << 8 * size) - 1
            assert not guest.vm.bus_write(Space.PIO, 0x5000, 0, size)
        assert guest.vm.bus_read(Space.MMIO, 0xD0000000, 8) == (1 << 64) - 1
        assert guest.vm.bus_read(Space.PIO, 0x3FD, 1) & 0x60 == 0x60
        assert guest.vm.bus_write(Space.PIO, 0x3FF, 0x5A, 1)
        assert guest.vm.bus_read(Space.PIO, 0x3FF, 1) == 0x5A


def test_a_pci_scan_finds_the_host_bridge_both_ways():
    with GuestVm("pciscan") as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"bar0 00000000\n")
        lines = guest.console.output.decode().splitlines()
        assert lines[:4] == [
            "cf8 00:00.0 8086:0d57 class 060000",
            "ecam 00:00.0 8086:0d57 class 060000",
            "disabled ffffffff",
            "id 0d578086",
        ]
        command = int(lines[4].removeprefix("command "), 16)
        # Only bits that a host bridge may have writable: I/O, memory, master, parity, SERR,
        # interrupt disable (PCI 3.0, 6.2.2); the write of ones to the status clears.
        assert command & ~0x0547 & 0xFFFF == 0
