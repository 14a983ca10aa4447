# SPDX-License-Identifier: Apache-2.0
"""The serial port of a running guest: output, interrupts, peers that come and go."""

import re

import pytest

from kvm_shim import EventKind
from tests.support.machines import GuestVm
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm

LINE = re.compile(rb"count (\d+)\n")


def test_output_arrives_in_order():
    with GuestVm("hello") as guest:
        guest.run()
        guest.console.expect(b"hello from the guest\n")
        assert guest.console.output == b"hello from the guest\n"
        guest.vm.pause()
        size = len(guest.console.output)
        wait_until(lambda: guest.serial.counters()["transmitted"] == size)


def test_output_without_a_peer_is_kept_for_the_first_one():
    with GuestVm("poweroff", connected=False) as guest:
        guest.run()
        guest.expect_power_off()
        guest.connect()
        guest.console.expect(b"power off\n")


def test_input_interrupts_the_guest():
    with GuestVm("echo") as guest:
        guest.run()
        guest.console.expect(b"echo ready\n")
        for character in b"velum":
            guest.console.send(bytes([character]))
            guest.console.expect(bytes([character]))
        guest.console.send(b"q")
        guest.console.expect(b"qbye\n")
        guest.expect_power_off()


def test_input_longer_than_the_fifo_is_not_lost():
    text = bytes(range(ord("A"), ord("Z") + 1)) * 8
    with GuestVm("echo") as guest:
        guest.run()
        guest.console.expect(b"echo ready\n")
        guest.console.send(text + b"q")
        guest.console.expect(text + b"qbye\n")
        counters = guest.serial.counters()
        assert counters["received"] == len(text) + 1
        assert counters["overruns"] == 0


def test_input_typed_before_the_guest_listens_waits():
    """All but the byte that the receiver holds when the guest clears it with its FIFO."""
    with GuestVm("echo") as guest:
        guest.console.send(b"earlyq")
        guest.run()
        guest.console.expect(b"echo ready\n")
        guest.console.expect(b"arlyqbye\n")


def test_a_peer_that_goes_away_is_an_event_and_the_guest_runs_on():
    with GuestVm("count") as guest:
        guest.run()
        guest.console.expect(LINE)
        guest.console.close()
        guest.expect_event(EventKind.SERIAL_HANGUP, "serial")
        guest.wait_for_counts_above(guest.counts())


def test_attach_and_detach_under_load_lose_nothing():
    """The guest prints on, and its lines have no gap while the peer comes and goes."""
    with GuestVm("count") as guest:
        guest.run()
        for _ in range(40):
            guest.console.read(0.01)
            guest.serial.detach()
            guest.wait_for_counts_above(guest.counts())
            guest.connect()
        last = int(guest.console.expect(re.compile(rb"count (\d{6,})\n"))[1])
        numbers = [int(number) for number in LINE.findall(guest.console.output)]
        step = numbers[0]
        assert numbers == [step * (index + 1) for index in range(len(numbers))]
        assert last in numbers
