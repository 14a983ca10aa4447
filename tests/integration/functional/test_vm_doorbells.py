# SPDX-License-Identifier: Apache-2.0
"""Doorbells (ioeventfd) that cost no exit, and that come and go while the guest rings."""

import contextlib
import os

import pytest

from kvm_shim import Space
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

PORT = 0x5000
ADDRESS = 0xD0000000
RINGS = 16


def rings_of(fd):
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_without_doorbells_each_ring_is_an_exit():
    with GuestVm("doorbell", cmdline=f"rings={RINGS}") as guest:
        guest.run()
        guest.expect_power_off()
        counters = guest.vm.counters(0)
        assert counters.unclaimed_io == RINGS
        assert counters.unclaimed_mmio == RINGS
        assert counters.exits["mmio"] == RINGS


def test_doorbells_signal_and_cost_no_exit():
    with GuestVm("doorbell", cmdline=f"rings={RINGS}") as guest, contextlib.ExitStack() as stack:
        values = {match: stack.enter_context(guest.eventfd()) for match in range(1, 5)}
        address = stack.enter_context(guest.eventfd())
        for match, fd in values.items():
            guest.vm.add_ioeventfd(Space.PIO, PORT, 2, fd, match=match)
        guest.vm.add_ioeventfd(Space.MMIO, ADDRESS, 4, address)
        guest.run()
        guest.expect_power_off()
        assert {match: rings_of(fd) for match, fd in values.items()} == dict.fromkeys(
            values, RINGS // 4
        )
        assert rings_of(address) == RINGS
        counters = guest.vm.counters(0)
        assert counters.unclaimed_io == 0
        assert counters.unclaimed_mmio == 0
        assert counters.exits["mmio"] == 0


def test_a_doorbell_of_another_value_or_size_stays_silent():
    with (
        GuestVm("doorbell", cmdline=f"rings={RINGS}") as guest,
        guest.eventfd() as value,
        guest.eventfd() as size,
    ):
        guest.vm.add_ioeventfd(Space.PIO, PORT, 2, value, match=9)
        guest.vm.add_ioeventfd(Space.MMIO, ADDRESS, 8, size)
        guest.run()
        guest.expect_power_off()
        assert (rings_of(value), rings_of(size)) == (0, 0)
        assert guest.vm.counters(0).unclaimed_io == RINGS
        assert guest.vm.counters(0).unclaimed_mmio == RINGS


def test_doorbells_come_and_go_while_the_guest_rings():
    """Each ring is heard once: by the doorbell, or as an exit."""
    with GuestVm("doorbell", cmdline="rings=1000000") as guest, guest.eventfd() as fd:
        guest.run()
        heard = 0
        for _ in range(100):
            guest.vm.add_ioeventfd(Space.MMIO, ADDRESS, 4, fd)
            guest.wait_for_counts_above(guest.counts())
            guest.vm.remove_ioeventfd(Space.MMIO, ADDRESS, 4, fd)
            heard += rings_of(fd)
        guest.vm.pause()
        heard += rings_of(fd)
        assert heard > 0
        assert 0 <= heard + guest.vm.counters(0).unclaimed_mmio - guest.count() <= 1
