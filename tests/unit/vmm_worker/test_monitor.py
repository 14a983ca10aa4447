# SPDX-License-Identifier: Apache-2.0
"""The event monitor: what it keeps, whom it tells that he missed something, whom it holds back."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from ipc_protocol.monitor import EventBatch, EventsQuery
from kvm_shim import Event, EventKind
from vmm_worker.monitor import BATCH, CAPACITY, GUEST_BURST, Monitor


class Clock:
    def __init__(self) -> None:
        self.now = 5_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(clock: Clock) -> Iterator[Monitor]:
    monitor = Monitor(clock)
    yield monitor
    monitor.close()


def device_event(kind: EventKind, source: str, detail: int = 0) -> Event:
    return Event(kind, None, 0, (detail, 0), source, "", None)


def names(batch: EventBatch) -> list[str]:
    return [f"{each.source}.{each.event}" for each in batch.events]


def since(monitor: Monitor, after: int) -> EventBatch:
    return monitor.answer(EventsQuery(monitor.epoch, after))


def test_events_count_from_one_and_from_the_start(monitor: Monitor, clock: Clock) -> None:
    monitor.tell("vmm", "starting")
    clock.now += 1_500_000_000
    monitor.tell("vm", "booting", x="y")
    batch = since(monitor, 0)
    assert (batch.last, batch.lost) == (2, False)
    assert [(each.timestamp.secs, each.timestamp.nanos) for each in batch.events] == [
        (0, 0),
        (1, 500_000_000),
    ]
    assert [each.seq for each in batch.events] == [1, 2]
    assert [each.properties for each in batch.events] == [None, {"x": "y"}]


def test_a_reader_gets_what_it_has_not_seen(monitor: Monitor) -> None:
    for name in "abc":
        monitor.tell("vm", name)
    assert names(since(monitor, 1)) == ["vm.b", "vm.c"]
    assert names(since(monitor, 3)) == []
    assert names(monitor.answer(EventsQuery())) == []
    assert monitor.answer(EventsQuery()).last == 3
    assert not since(monitor, 99).lost


def test_who_has_seen_another_worker_s_events_gets_all_and_is_told(monitor: Monitor) -> None:
    monitor.tell("vm", "a")
    batch = monitor.answer(EventsQuery("another", 77))
    assert (names(batch), batch.lost) == (["vm.a"], True)
    batch = monitor.answer(EventsQuery(None, 0))
    assert (names(batch), batch.lost) == (["vm.a"], False)


def test_what_is_kept_is_bounded_and_who_is_behind_is_told(monitor: Monitor) -> None:
    for number in range(CAPACITY + 10):
        monitor.tell("vm", str(number))
    batch = since(monitor, 9)
    assert (batch.lost, batch.events[0].seq) == (True, 11)
    assert not since(monitor, 10).lost
    seen, after = 0, 10
    while events := since(monitor, after).events:
        assert len(events) <= BATCH
        seen, after = seen + len(events), events[-1].seq
    assert (seen, after) == (CAPACITY, CAPACITY + 10)


def test_the_descriptor_says_that_there_is_something_new(monitor: Monitor) -> None:
    monitor.clear()
    assert not select.select([monitor.fd], [], [], 0)[0]
    monitor.tell("vm", "a")
    assert select.select([monitor.fd], [], [], 0)[0]
    monitor.clear()
    assert not select.select([monitor.fd], [], [], 0)[0]


def test_begin_and_end_and_failure(monitor: Monitor) -> None:
    with monitor.telling("pausing", "paused"):
        pass
    with pytest.raises(ValueError), monitor.telling("resuming", "resumed"):
        raise ValueError
    with pytest.raises(ValueError), monitor.telling("booting", "booted", failed="boot-failed"):
        raise ValueError("no kernel")
    batch = since(monitor, 0)
    assert names(batch) == [
        "vm.pausing",
        "vm.paused",
        "vm.resuming",
        "vm.booting",
        "vm.boot-failed",
    ]
    assert batch.events[-1].properties == {"reason": "no kernel"}


def test_devices_and_panics(monitor: Monitor) -> None:
    monitor.tell_device(device_event(EventKind.DEVICE_ACTIVATED, "_disk0"))
    monitor.tell_device(device_event(EventKind.DEVICE_RESET, "_disk0"))
    monitor.tell_device(device_event(EventKind.DEVICE_LOG, "_disk0"))
    monitor.tell_panic(device_event(EventKind.PANICKED, "__pvpanic", 1))
    monitor.tell_panic(device_event(EventKind.PANICKED, "__pvpanic", 3))
    batch = since(monitor, 0)
    assert names(batch) == [
        *("virtio-device.activated", "virtio-device.reset"),
        *("guest.panic", "guest.panic"),
    ]
    assert [each.properties for each in batch.events] == [
        *({"id": "_disk0"}, {"id": "_disk0"}),
        *({"event": "panic"}, {"event": "crash_loaded"}),
    ]


def test_a_guest_cannot_push_everything_else_out(monitor: Monitor, clock: Clock) -> None:
    monitor.tell("vm", "booted")
    for _ in range(10 * CAPACITY):
        monitor.tell_device(device_event(EventKind.DEVICE_RESET, "_net0"))
    monitor.tell_device(device_event(EventKind.DEVICE_RESET, "_disk1"))
    batch = since(monitor, 0)
    assert len(batch.events) == 1 + GUEST_BURST + 1
    clock.now += 2_000_000_000
    monitor.tell_device(device_event(EventKind.DEVICE_RESET, "_net0"))
    (event,) = since(monitor, batch.last).events
    assert event.properties == {
        "id": "_net0",
        "suppressed": str(10 * CAPACITY - GUEST_BURST),
    }


def test_threads_may_tell_while_another_asks(monitor: Monitor) -> None:
    tellers = [
        threading.Thread(target=lambda: [monitor.tell("vm", "x") for _ in range(200)])
        for _ in range(4)
    ]
    for teller in tellers:
        teller.start()
    seen: list[int] = []
    while len(seen) < 800:
        seen += [each.seq for each in since(monitor, len(seen)).events]
    for teller in tellers:
        teller.join()
    assert seen == list(range(1, 801))
    timestamps = [each.timestamp for each in since(monitor, 800 - BATCH).events]
    assert all((a.secs, a.nanos) <= (b.secs, b.nanos) for a, b in pairwise(timestamps))


def test_each_process_has_an_epoch_of_its_own(monitor: Monitor) -> None:
    other = Monitor()
    assert other.epoch != monitor.epoch
    other.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(other.fd)
