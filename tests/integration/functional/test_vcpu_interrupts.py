# SPDX-License-Identifier: Apache-2.0
"""Interrupts of every kind: timer, message (irqfd), pin, NMI."""

import os

import pytest

from kvm_shim import EventKind
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

GSI = 24
MSI_ADDRESS = 0xFEE00000
VECTOR = 0x50


def test_the_local_apic_timer_in_each_mode():
    with GuestVm("timer") as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"deadline 10\n")
        assert guest.console.output == b"periodic 10\none-shot 10\ndeadline 10\n"


def test_an_eventfd_is_an_interrupt():
    with GuestVm("msi") as guest, guest.eventfd() as fd:
        guest.vm.route_msi(GSI, MSI_ADDRESS, VECTOR)
        guest.vm.add_irqfd(fd, GSI)
        guest.run()
        guest.console.expect(b"msi ready\n")
        for count in range(1, 51):
            os.eventfd_write(fd, 1)
            guest.console.expect(b"msi %d\n" % count)


def test_an_eventfd_that_was_removed_is_no_interrupt():
    with GuestVm("msi") as guest, guest.eventfd() as old, guest.eventfd() as new:
        guest.vm.route_msi(GSI, MSI_ADDRESS, VECTOR)
        guest.vm.route_msi(GSI + 1, MSI_ADDRESS, VECTOR)
        guest.vm.add_irqfd(old, GSI)
        guest.vm.add_irqfd(new, GSI + 1)
        guest.run()
        guest.console.expect(b"msi ready\n")
        os.eventfd_write(old, 1)
        guest.console.expect(b"msi 1\n")
        guest.vm.remove_irqfd(old, GSI)
        guest.vm.unroute(GSI)
        os.eventfd_write(old, 1)
        os.eventfd_write(new, 1)
        guest.console.expect(b"msi 2\n")
        os.eventfd_write(new, 1)
        guest.console.expect(b"msi 3\n")


def test_a_route_can_be_changed_under_an_eventfd():
    """First a vector nobody handles would fault the guest, so the route goes to a CPU that is
    not there."""
    with GuestVm("msi") as guest, guest.eventfd() as fd:
        guest.vm.route_msi(GSI, MSI_ADDRESS | 7 << 12, VECTOR)
        guest.vm.add_irqfd(fd, GSI)
        guest.run()
        guest.console.expect(b"msi ready\n")
        os.eventfd_write(fd, 1)
        guest.vm.route_msi(GSI, MSI_ADDRESS, VECTOR)
        os.eventfd_write(fd, 1)
        guest.console.expect(b"msi 1\n")
        os.eventfd_write(fd, 1)
        guest.console.expect(b"msi 2\n")


def test_an_interrupt_while_paused_waits_for_the_resume():
    with GuestVm("msi") as guest, guest.eventfd() as fd:
        guest.vm.route_msi(GSI, MSI_ADDRESS, VECTOR)
        guest.vm.add_irqfd(fd, GSI)
        guest.run()
        guest.console.expect(b"msi ready\n")
        guest.vm.pause()
        os.eventfd_write(fd, 1)
        assert guest.console.read(0.02) == b""
        guest.vm.resume()
        guest.console.expect(b"msi 1\n")


def test_an_interrupt_wakes_a_halted_vcpu_without_an_exit():
    with GuestVm("msi") as guest, guest.eventfd() as fd:
        guest.vm.route_msi(GSI, MSI_ADDRESS, VECTOR)
        guest.vm.add_irqfd(fd, GSI)
        guest.run()
        guest.console.expect(b"msi ready\n")
        os.eventfd_write(fd, 1)
        guest.console.expect(b"msi 1\n")
        exits = guest.vm.counters(0).exits
        assert exits["hlt"] == 0
        assert exits["other"] == 0


def test_an_event_device_interrupts_by_its_pin():
    with GuestVm("button") as guest:
        guest.run()
        guest.console.expect(b"button ready\n")
        guest.ged.notify(0x04)
        guest.console.expect(b"flags 04 then 00\n")
        guest.ged.notify(0x08)
        guest.console.expect(b"flags 08 then 00\n")
        guest.expect_event(EventKind.POWER_OFF, "acpi_pm")


def test_an_nmi_wakes_a_vcpu_with_interrupts_off():
    with GuestVm("nmi") as guest:
        guest.run()
        guest.console.expect(b"nmi ready\n")
        for count in range(1, 6):
            guest.vm.nmi()
            guest.console.expect(b"nmi %d\n" % count)
