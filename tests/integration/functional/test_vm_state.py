# SPDX-License-Identifier: Apache-2.0
"""State saved in one VM and loaded into another: the guest goes on where it was."""

import errno
import os
import re

import pytest

from kvm_shim import ShimError
from tests.support.machines import GuestVm, move

pytestmark = pytest.mark.kvm

LINE = re.compile(rb"count (\d+)\n")


@pytest.mark.parametrize("vcpus", [1, 2])
def test_the_count_goes_on(vcpus):
    with GuestVm("count", vcpus=vcpus) as source, GuestVm(None, vcpus=vcpus) as target:
        source.run()
        last = int(source.console.expect(LINE)[1])
        source.wait_for_counts_above([last] * vcpus)
        source.vm.pause()
        counts = source.counts()
        registers = [source.vm.registers(index) for index in range(vcpus)]
        move(source, target)
        assert target.counts() == counts
        assert [target.vm.registers(index) for index in range(vcpus)] == registers
        source.console.read()
        printed = [int(number) for number in LINE.findall(source.console.output)]
        source.close()

        target.run()
        target.wait_for_counts_above(counts)
        target.console.expect(LINE)
        target.console.expect(LINE)
        whole = source.console.output + target.console.output
        printed = [int(number) for number in LINE.findall(whole)]
        assert printed == [printed[0] * (index + 1) for index in range(len(printed))]


def test_a_halted_guest_is_woken_in_the_other_vm():
    """What wakes it passed through the UART, the I/O APIC and the local APIC."""
    with GuestVm("echo") as source, GuestVm(None) as target:
        source.run()
        source.console.expect(b"echo ready\n")
        source.console.send(b"a")
        source.console.expect(b"a")
        source.vm.pause()
        move(source, target)
        target.run()
        target.console.send(b"bq")
        target.console.expect(b"bqbye\n")
        target.expect_power_off()
        assert target.console.output == b"bqbye\n"


def test_a_timer_goes_on_in_the_other_vm():
    with GuestVm("timer") as source, GuestVm(None) as target:
        source.run()
        source.console.expect(b"periodic 10\n")
        source.vm.pause()
        source.console.read()
        move(source, target)
        target.run()
        target.console.expect(b"deadline 10\n")
        target.expect_power_off()
        assert source.console.output + target.console.output == (
            b"periodic 10\none-shot 10\ndeadline 10\n"
        )


def test_a_pending_message_is_delivered_in_the_other_vm():
    with GuestVm("msi") as source, GuestVm(None) as target, source.eventfd() as fd:
        source.vm.route_msi(24, 0xFEE00000, 0x50)
        source.vm.add_irqfd(fd, 24)
        source.run()
        source.console.expect(b"msi ready\n")
        source.vm.pause()
        os.eventfd_write(fd, 1)
        move(source, target)
        target.run()
        target.console.expect(b"msi 1\n")


def test_routes_are_part_of_the_state():
    with GuestVm("msi") as source, GuestVm(None) as target, source.eventfd() as fd:
        source.vm.route_msi(24, 0xFEE00000, 0x50)
        source.run()
        source.console.expect(b"msi ready\n")
        source.vm.pause()
        move(source, target)
        target.vm.add_irqfd(fd, 24)
        target.run()
        os.eventfd_write(fd, 1)
        target.console.expect(b"msi 1\n")


def test_a_guest_saved_and_loaded_in_place_goes_on():
    with GuestVm("count") as guest:
        guest.run()
        for _ in range(5):
            counts = guest.wait_for_counts_above(guest.counts())
            guest.vm.pause()
            move(guest, guest)
            guest.vm.resume()
            guest.wait_for_counts_above(counts)


def test_what_is_not_a_saved_state_is_refused_and_changes_nothing():
    with GuestVm("hello") as guest:
        vcpu, machine = guest.vm.save_vcpu(0), guest.vm.save()
        registers = guest.vm.registers(0)
        cases = [
            (lambda blob: guest.vm.load_vcpu(0, blob), vcpu),
            (guest.vm.load, machine),
            *((device.load, device.save()) for device in guest.devices.values()),
        ]
        for index, (load, good) in enumerate(cases):
            other = cases[(index + 1) % len(cases)][1]
            for bad in (b"", good[:-1], good + b"\0", b"\xff" * len(good), other):
                with pytest.raises(ShimError) as caught:
                    load(bad)
                assert caught.value.errno == errno.EINVAL
        assert guest.vm.registers(0) == registers
        guest.run()
        guest.console.expect(b"hello from the guest\n")
