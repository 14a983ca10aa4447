# SPDX-License-Identifier: Apache-2.0
"""One worker whose events are followed, and all clients that read them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from api_server.event_text import Position, event_text, notice_text
from api_server.stream_reader import Reader
from ipc_protocol.errors import VmFailure
from ipc_protocol.monitor import MAX_WAIT_MS, EventBatch, EventsQuery, Timestamp
from ipc_protocol.names import vm_of
from ipc_protocol.subscription import Change, Subscription

__all__ = ["Following"]

_log = logging.getLogger(__name__)

_RETRY: Final = 1.0
"""Seconds after which a worker that refused a question is asked again."""


class Following:
    """Asks a worker for what the one of its readers lacks that has least.

    So the worker's own memory is the buffer of a reader that is slow, and none here.

    Args:
        path: The worker's socket.
        start: What the worker last said about itself.
    """

    def __init__(self, path: Path, start: EventBatch) -> None:
        self._subscription = Subscription(path)
        self._epoch = start.epoch
        self._started_ns = start.started_ns
        self._away = False
        self._refused = False
        self.path = path
        self.vm = vm_of(path)
        """The VM's name, for the log."""
        self.readers: set[Reader] = set()
        self.retry_at: float | None = None
        """When to call :meth:`ask`, though nothing happens."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for input."""
        return self._subscription.descriptors

    def join(self, reader: Reader) -> None:
        """Add a reader; :meth:`take` is to be called next."""
        self.readers.add(reader)
        # Before the answer to a question is looked at that knew nothing of this reader: what
        # such an answer leaves out is not lost.
        self.ask()

    def ask(self) -> bool:
        """Ask for what a reader lacks, unless that is asked already; return whether it was not.

        After a question :meth:`take` is to be called.
        """
        if self.retry_at is not None:
            if time.monotonic() < self.retry_at:
                return False
            self.retry_at = None
        hungry = [reader.position for reader in self.readers if not reader.full]
        if not hungry or not self._subscription.connected:
            return False
        epoch: str | None = self._epoch
        after = min(position.seq for position in hungry)
        if any(position.epoch != epoch for position in hungry):
            epoch, after = None, 0
        asked = self._subscription.query
        if asked is not None and asked.epoch == epoch and (asked.after or 0) <= after:
            return False
        self._subscription.ask(EventsQuery(epoch, after, MAX_WAIT_MS))
        return True

    def take(self) -> bool:
        """Give the readers what has come; return whether :attr:`descriptors` are others now."""
        changed = False
        while (news := self._subscription.take()) is not None:
            if isinstance(news, EventBatch):
                self._share(news)
            elif isinstance(news, VmFailure):
                self._bear(news)
            elif news is Change.LOST:
                self._away = changed = True
                self._subscription.reconnect()
                self._notice("worker-away", self.readers)
            elif self._away:
                self._away = False
                self._notice("worker-back", self.readers)
            self.ask()
        return changed

    def close(self) -> None:
        """Follow it no longer."""
        self._subscription.close()

    def _bear(self, refusal: VmFailure) -> None:
        """Ask again later, and say once why."""
        self.retry_at = time.monotonic() + _RETRY
        if not self._refused:
            _log.warning("the worker of %s does not tell its events: %s", self.vm, refusal)
        self._refused = True

    def _share(self, batch: EventBatch) -> None:
        self._refused = False
        self._epoch, self._started_ns = batch.epoch, batch.started_ns
        texts = [event_text(batch.epoch, event) for event in batch.events]
        for reader in self.readers:
            if reader.full:
                continue
            self._explain(reader, batch)
            if batch.events:
                reader.feed(texts, Position(batch.epoch, batch.events[-1].seq))

    def _explain(self, reader: Reader, batch: EventBatch) -> None:
        """Tell a reader what it will never see, and move it on to behind that."""
        before = reader.position
        reason = "too_far_behind"
        if before.epoch != batch.epoch:
            reason = "worker_restarted"
            reader.position = Position(batch.epoch, 0)
        missed = batch.events[0].seq - 1 - reader.position.seq if batch.events else 0
        if reason == "worker_restarted" or missed > 0:
            # Of a worker that is gone nobody knows how much it had to tell.
            count = {"events": str(missed)} if before.epoch == batch.epoch else {}
            self._notice("lost", [reader], after=str(before), reason=reason, **count)
            reader.position = Position(batch.epoch, reader.position.seq + max(0, missed))

    def _notice(self, event: str, readers: Iterable[Reader], **properties: str) -> None:
        timestamp = Timestamp.since(self._started_ns, time.monotonic_ns())
        text = notice_text(event, timestamp, **properties)
        for reader in readers:
            reader.tell(text)
