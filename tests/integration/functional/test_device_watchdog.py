# SPDX-License-Identifier: Apache-2.0
"""The watchdog: a guest that comes by, stays away, is paused and moves."""

import contextlib
import errno
import time
from collections.abc import Iterator

import pytest

from kvm_shim import EventKind, ShimError
from kvm_shim.virtio.watchdog import create_watchdog
from tests.support.machines import GuestVm, move
from tests.support.ports import forged, payload_of

pytestmark = pytest.mark.kvm

TIMEOUT_MS = 1000
TIMEOUT = TIMEOUT_MS / 1000
LONG = 1.5 * TIMEOUT
STATE_SIZE = 9
"""Of its own: whether the guest has begun, and the nanoseconds that are left."""


@contextlib.contextmanager
def watched(guest: str | None = "watchdog", timeout_ms: int = TIMEOUT_MS) -> Iterator[GuestVm]:
    with GuestVm(guest) as machine:
        machine.devices["watchdog"] = create_watchdog(
            machine.vm, machine.place("__watchdog", 1), timeout_ms=timeout_ms
        )
        yield machine


def come_by(machine: GuestVm) -> None:
    machine.console.send(b".")
    machine.console.expect(b"seen\n")


def ready(machine: GuestVm) -> None:
    machine.run()
    machine.console.expect(b"watchdog ready\n")


def expect_quiet(machine: GuestVm) -> None:
    while (event := machine.vm.next_event()) is not None:
        assert event.kind in (EventKind.DEVICE_ACTIVATED, EventKind.DEVICE_RESET)


def test_a_guest_that_stays_away_is_reset():
    with watched() as guest:
        ready(guest)
        come_by(guest)
        begun = time.monotonic()
        guest.expect_event(EventKind.RESET, "__watchdog")
        assert time.monotonic() - begun > 0.9 * TIMEOUT


def test_a_guest_that_comes_by_goes_on():
    with watched() as guest:
        ready(guest)
        begun = time.monotonic()
        visits = 0
        while time.monotonic() < begun + LONG:
            come_by(guest)
            visits += 1
            time.sleep(TIMEOUT / 20)
        expect_quiet(guest)
        assert guest.devices["watchdog"].counters()["visits"] == visits
        guest.console.send(b"q")
        guest.expect_power_off()


def test_it_sleeps_until_the_guest_begins():
    with watched() as guest:
        ready(guest)
        time.sleep(LONG)
        expect_quiet(guest)


def test_a_driver_that_gives_it_back_stops_it():
    with watched() as guest:
        ready(guest)
        come_by(guest)
        guest.console.send(b"r")
        guest.expect_event(EventKind.DEVICE_RESET, "__watchdog")
        time.sleep(LONG)
        expect_quiet(guest)


def test_it_stands_still_while_the_vm_is_paused():
    with watched() as guest:
        ready(guest)
        come_by(guest)
        guest.vm.pause()
        time.sleep(LONG)
        guest.vm.resume()
        come_by(guest)
        expect_quiet(guest)
        guest.expect_event(EventKind.RESET, "__watchdog")


def test_its_time_moves_to_another_vm():
    with watched(timeout_ms=60_000) as source, watched(guest=None, timeout_ms=60_000) as target:
        ready(source)
        come_by(source)
        source.vm.pause()
        state = source.devices["watchdog"].save()
        begun, left = payload_of(state)[-STATE_SIZE], payload_of(state)[-STATE_SIZE + 1 :]
        assert begun == 1
        assert 0 < int.from_bytes(left, "little") <= 60 * 10**9
        # All but an instant of it passes.
        soon = forged(state, len(payload_of(state)) - 8, (10**6).to_bytes(8, "little"))
        move(source, target)
        target.devices["watchdog"].load(soon)
        source.close()
        target.run()
        target.expect_event(EventKind.RESET, "__watchdog")


@pytest.mark.parametrize(
    ("begun", "left"), [(2, 1), (1, 0), (0, 1), (1, TIMEOUT_MS * 10**6 + 1), (1, (1 << 64) - 1)]
)
def test_forged_states_are_refused(begun, left):
    with watched() as guest:
        device = guest.devices["watchdog"]
        state = device.save()
        own = bytes([begun]) + left.to_bytes(8, "little")
        with pytest.raises(ShimError, match="__watchdog state") as caught:
            device.load(forged(state, len(payload_of(state)) - STATE_SIZE, own))
        assert caught.value.errno == errno.EINVAL
        assert device.save() == state


def test_no_time_at_all_is_refused():
    with GuestVm(None) as machine, pytest.raises(ShimError, match="0 ms"):
        create_watchdog(machine.vm, machine.place("__watchdog", 1), timeout_ms=0)
