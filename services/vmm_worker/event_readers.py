# SPDX-License-Identifier: Apache-2.0
"""The questions for events that wait until there are some."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.monitor import EventBatch, EventsQuery
from ipc_protocol.server import Incoming, Server
from vmm_worker.monitor import Monitor

__all__ = ["MAX_READERS", "EventReaders"]

MAX_READERS: Final = 64
"""Questions that may wait; an API process has one for all of its clients."""
_MARGIN: Final = 0.5
"""Seconds before its caller's deadline at which a question is answered at the latest."""


class _Question(NamedTuple):
    incoming: Incoming
    query: EventsQuery
    due: float


class EventReaders:
    """Answers ``vmm.events``; for the thread of the server.

    Args:
        monitor: Has the events.
        server: Where answers go.
    """

    def __init__(self, monitor: Monitor, server: Server) -> None:
        self._monitor = monitor
        self._server = server
        self._waiting: dict[bytes, _Question] = {}
        self._given: dict[bytes, int] = {}
        """The last event that each reader was given, of those that come back for more."""

    @property
    def due(self) -> float | None:
        """When :meth:`serve` is to be called at the latest (``time.monotonic``)."""
        return min((question.due for question in self._waiting.values()), default=None)

    @property
    def owed(self) -> bool:
        """Whether a reader that comes back for more would get some."""
        return any(seq < self._monitor.last for seq in self._given.values())

    def take(self, incoming: Incoming) -> None:
        """Answer a question now, or as soon as there is an answer.

        A reader has one question. With the next it has the answer to the one before, so what
        waits here is bounded.
        """
        query = incoming.body
        before = self._waiting.pop(incoming.peer, None)
        if before is not None:
            self._answer(before, at_once=True)
        latest = incoming.deadline_ns / 1e9 - _MARGIN
        due = min(time.monotonic() + query.wait_ms / 1000, latest)
        question = _Question(incoming, query, due)
        if self._answer(question, at_once=query.after is None or query.wait_ms == 0):
            return
        if len(self._waiting) >= MAX_READERS:
            message = f"{MAX_READERS} readers wait for this worker's events already"
            self._server.fail(incoming, VmError(code=ErrorCode.TOO_MANY_READERS, message=message))
            return
        self._waiting[incoming.peer] = question

    def serve(self) -> None:
        """Answer those for whom there is something, and those whose wait is over."""
        now = time.monotonic()
        self._waiting = {
            peer: question
            for peer, question in self._waiting.items()
            if not self._answer(question, at_once=now >= question.due)
        }

    def close(self) -> None:
        """Answer all."""
        for question in self._waiting.values():
            self._answer(question, at_once=True)
        self._waiting.clear()

    def _answer(self, question: _Question, *, at_once: bool) -> bool:
        batch = self._monitor.answer(question.query)
        if not (at_once or batch.events):
            return False
        self._server.reply(question.incoming, batch)
        if question.query.wait_ms:
            self._note_given(question.incoming.peer, batch)
        return True

    def _note_given(self, peer: bytes, batch: EventBatch) -> None:
        self._given.pop(peer, None)
        if len(self._given) >= MAX_READERS:
            del self._given[next(iter(self._given))]
        self._given[peer] = batch.events[-1].seq if batch.events else batch.last
