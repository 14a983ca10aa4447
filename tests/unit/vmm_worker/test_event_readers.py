# SPDX-License-Identifier: Apache-2.0
"""Questions for events: answered when there is something, and never forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import Operation
from ipc_protocol.monitor import EventBatch, EventsQuery
from ipc_protocol.server import Incoming
from vmm_worker.event_readers import MAX_READERS, EventReaders
from vmm_worker.monitor import Monitor


class Answers:
    """Stands where the server is, and keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def reply(self, incoming: Incoming, value: object = None) -> None:
        self.sent.append((incoming.id, value))

    def fail(self, incoming: Incoming, error: VmError) -> None:
        self.sent.append((incoming.id, error))

    def take(self) -> list[tuple[bytes, Any]]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    monitor.tell("vmm", "starting")
    yield monitor
    monitor.close()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def readers(monitor: Monitor, answers: Answers) -> EventReaders:
    return EventReaders(monitor, answers)  # type: ignore[arg-type] # it has what is used


def question(
    name: str, query: EventsQuery, *, peer: str | None = None, seconds: float = 60
) -> Incoming:
    now = time.monotonic_ns()
    return Incoming(
        operation=Operation.VMM_EVENTS,
        body=query,
        deadline_ns=now + int(seconds * 1e9),
        received_ns=now,
        id=name.encode(),
        peer=(peer or name).encode(),
    )


def test_what_is_there_is_answered_at_once(
    monitor: Monitor, readers: EventReaders, answers: Answers
) -> None:
    readers.take(question("a", EventsQuery(None, 0, 30_000)))
    ((name, batch),) = answers.take()
    assert (name, [each.event for each in batch.events]) == (b"a", ["starting"])
    readers.take(question("b", EventsQuery(monitor.epoch, 1)))
    readers.take(question("c", EventsQuery(None, None, 30_000)))
    assert [(name, batch.events) for name, batch in answers.take()] == [(b"b", ()), (b"c", ())]
    assert readers.due is None


def test_who_waits_is_answered_when_something_happens(
    monitor: Monitor, readers: EventReaders, answers: Answers
) -> None:
    for name in "ab":
        readers.take(question(name, EventsQuery(monitor.epoch, 1, 30_000)))
    readers.serve()
    assert answers.take() == []
    assert readers.due is not None
    monitor.tell("vm", "booting")
    readers.serve()
    sent = answers.take()
    assert [name for name, _ in sent] == [b"a", b"b"]
    assert all([each.event for each in batch.events] == ["booting"] for _, batch in sent)
    assert readers.due is None


@pytest.mark.parametrize(("wait_ms", "seconds"), [(1, 60), (30_000, 0.4)])
def test_a_wait_ends_with_nothing_before_its_caller_gives_up(
    monitor: Monitor, readers: EventReaders, answers: Answers, wait_ms: int, seconds: float
) -> None:
    readers.take(question("a", EventsQuery(monitor.epoch, 1, wait_ms), seconds=seconds))
    due = readers.due
    assert due is not None
    while time.monotonic() < due:
        time.sleep(0.001)
    readers.serve()
    ((_, batch),) = answers.take()
    assert batch == EventBatch(monitor.epoch, monitor.started_ns, 1)


def test_a_reader_s_next_question_ends_the_one_before(
    monitor: Monitor, readers: EventReaders, answers: Answers
) -> None:
    readers.take(question("a", EventsQuery(monitor.epoch, 1, 30_000), peer="p"))
    readers.take(question("b", EventsQuery(monitor.epoch, 1, 30_000), peer="p"))
    assert [name for name, _ in answers.take()] == [b"a"]
    monitor.tell("vm", "booting")
    readers.serve()
    assert [name for name, _ in answers.take()] == [b"b"]


def test_no_more_wait_than_may(monitor: Monitor, readers: EventReaders, answers: Answers) -> None:
    waiting = EventsQuery(monitor.epoch, 1, 30_000)
    for number in range(MAX_READERS):
        readers.take(question(f"{number}", waiting))
    assert answers.take() == []
    readers.take(question("one more", waiting))
    ((_, error),) = answers.take()
    assert error.code is ErrorCode.TOO_MANY_READERS
    readers.take(question("7", EventsQuery(monitor.epoch, 0)))
    assert len(answers.take()) == 2
    readers.take(question("one more", waiting))
    assert answers.take() == []


def test_the_end_answers_all(monitor: Monitor, readers: EventReaders, answers: Answers) -> None:
    for name in "ab":
        readers.take(question(name, EventsQuery(monitor.epoch, 1, 30_000)))
    monitor.tell("vmm", "shutdown")
    readers.close()
    sent = answers.take()
    assert [name for name, _ in sent] == [b"a", b"b"]
    assert all([each.event for each in batch.events] == ["shutdown"] for _, batch in sent)
    readers.close()
    assert answers.take() == []
