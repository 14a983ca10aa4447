# SPDX-License-Identifier: Apache-2.0
"""What a guest's stop means, and how fast it may reset itself."""

from __future__ import annotations

import logging
import time
from itertools import pairwise

import pytest

from kvm_shim import Event, EventKind, Registers
from vmm_worker.events import NOTES, REBOOTS, RebootPace, describe, note

REGISTERS = Registers(**dict.fromkeys(Registers._fields, 0) | {"rip": 0xFFFF_FFFF_8100_0000})


def event(kind: EventKind, **fields: object) -> Event:
    values: dict[str, object] = {
        "kind": kind,
        "vcpu": None,
        "time_ns": time.monotonic_ns(),
        "detail": (0, 0),
        "source": "kvm",
        "text": "",
        "registers": None,
    }
    return Event(**{**values, **fields})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (EventKind.RESET, "reset"),
        (EventKind.POWER_OFF, "power_off"),
        (EventKind.TRIPLE_FAULT, "triple_fault"),
        (EventKind.INTERNAL_ERROR, "internal_error"),
        (EventKind.GUEST_PANIC, "panic"),
        (EventKind.PANICKED, "panic"),
    ],
)
def test_reasons(kind: EventKind, reason: str) -> None:
    stop = describe(event(kind, source="i8042"))
    assert (stop.reason, stop.source) == (reason, "i8042")


def test_a_reset_and_a_triple_fault_reboot() -> None:
    assert {EventKind.RESET, EventKind.TRIPLE_FAULT} == REBOOTS


def test_the_time_is_when_it_happened() -> None:
    asked = time.time()
    stop = describe(event(EventKind.RESET, time_ns=time.monotonic_ns() - 5_000_000_000))
    assert stop.time == pytest.approx(asked - 5, abs=1)


def test_details_are_for_people() -> None:
    stop = describe(event(EventKind.INTERNAL_ERROR, vcpu=3, detail=(1, 2), registers=REGISTERS))
    assert "vCPU 3" in stop.detail
    assert "0x1, 0x2" in stop.detail
    assert "rip=0xffffffff81000000" in stop.detail


def test_a_crash_is_told_in_the_device_s_words() -> None:
    crash = describe(event(EventKind.PANICKED, source="__pvpanic", text="it panicked", vcpu=1))
    assert crash.detail == "it panicked; vCPU 1"


@pytest.mark.parametrize(
    ("kind", "level", "text"),
    [
        (EventKind.DEVICE_LOG, logging.WARNING, "_disk0: the image is full"),
        (EventKind.DEVICE_ACTIVATED, logging.INFO, "_disk0: the guest's driver uses it"),
        (EventKind.DEVICE_RESET, logging.DEBUG, "_disk0: the guest's driver reset it"),
    ],
)
def test_notes_are_for_the_log(
    kind: EventKind, level: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert kind in NOTES
    with caplog.at_level(logging.DEBUG):
        note(event(kind, source="_disk0", text="the image is full"))
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, text)]


def test_a_guest_that_resets_again_and_again_waits_longer_each_time() -> None:
    pace = RebootPace()
    delays = [pace.delay(0.0) for _ in range(100)]
    assert delays[: RebootPace.FREE] == [0.0] * RebootPace.FREE
    assert delays[RebootPace.FREE] > 0
    assert all(later >= sooner for sooner, later in pairwise(delays))
    assert delays[-1] == RebootPace.LONGEST_DELAY


def test_a_guest_that_ran_for_a_while_is_rebooted_at_once() -> None:
    pace = RebootPace()
    for _ in range(10):
        pace.delay(0.0)
    assert pace.delay(RebootPace.CALM) == 0.0
    assert pace.delay(0.0) == 0.0
