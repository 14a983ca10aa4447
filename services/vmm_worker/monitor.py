# SPDX-License-Identifier: Apache-2.0
"""The event monitor: the last events of this worker, for whoever asks."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from ipc_protocol.monitor import EventBatch, EventsQuery, MonitorEvent, Timestamp
from kvm_shim import Event, EventKind

__all__ = ["BATCH", "CAPACITY", "GUEST_BURST", "Monitor"]

CAPACITY: Final = 1024
"""Events kept; who is further behind is told that it lost some."""
BATCH: Final = 128
"""Events in one answer: encoding more would keep the control loop from reads."""
GUEST_BURST: Final = 16
"""Events of one kind and one device that a guest may cause in a period."""
_GUEST_PERIOD_NS: Final = 1_000_000_000

_DEVICE_EVENTS: Final = {
    EventKind.DEVICE_ACTIVATED: "activated",
    EventKind.DEVICE_RESET: "reset",
}
_CRASH_LOADED: Final = 2
"""The guest's kernel starts another one to save what it can (pvpanic's bit)."""


class Monitor:
    """Keeps the events and says by a descriptor that there are new ones.

    Events are told from any thread; :attr:`fd` and :meth:`close` are the control loop's.

    Args:
        clock: What ``CLOCK_MONOTONIC`` says, in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[MonitorEvent] = deque(maxlen=CAPACITY)
        self._caused: dict[tuple[str, str], tuple[int, int]] = {}
        self.epoch = os.urandom(8).hex()
        """The name of this process among all that told events under this VM's name."""
        self.started_ns = clock()
        self.last = 0
        """``seq`` of the newest event."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when something was told since :meth:`clear`."""

    def tell(self, source: str, event: str, /, **properties: str) -> None:
        """Add an event."""
        with self._lock:
            self._add(source, event, properties)

    @contextmanager
    def telling(self, begun: str, done: str, *, failed: str | None = None) -> Iterator[None]:
        """Tell the begin and the end of something that happens to the VM.

        Args:
            begun: The event before it.
            done: The event after it, unless it fails.
            failed: The event after it if it does, where there is one.
        """
        self.tell("vm", begun)
        try:
            yield
        except BaseException as ex:
            if failed is not None:
                self.tell("vm", failed, reason=str(ex))
            raise
        self.tell("vm", done)

    def tell_device(self, event: Event) -> None:
        """Add what the guest's driver did with a device, if that is an event."""
        name = _DEVICE_EVENTS.get(event.kind)
        if name is None:
            return
        # A guest can cause these at will, and must not push everything else out.
        cause = (name, event.source)
        now = self._clock()
        properties = {"id": event.source}
        with self._lock:
            start, count = self._caused.get(cause, (now, 0))
            if now - start >= _GUEST_PERIOD_NS:
                if count > GUEST_BURST:
                    properties["suppressed"] = str(count - GUEST_BURST)
                start, count = now, 0
            self._caused[cause] = (start, count + 1)
            if count < GUEST_BURST:
                self._add("virtio-device", name, properties)

    def tell_panic(self, event: Event) -> None:
        """Add a crash that the guest reported; its device holds back what comes too often."""
        what = "crash_loaded" if event.detail[0] & _CRASH_LOADED else "panic"
        self.tell("guest", "panic", event=what)

    def answer(self, query: EventsQuery) -> EventBatch:
        """Return what a reader has not seen."""
        with self._lock:
            oldest = self.last - len(self._events)
            after = self.last if query.after is None else 0
            if query.after is not None and query.epoch == self.epoch:
                after = min(query.after, self.last)
            start = max(0, after - oldest)
            return EventBatch(
                epoch=self.epoch,
                started_ns=self.started_ns,
                last=self.last,
                events=tuple(islice(self._events, start, start + BATCH)),
                lost=after < oldest or query.epoch not in (None, self.epoch),
            )

    def clear(self) -> None:
        """Make :attr:`fd` unreadable until the next event."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back; nothing is told any more."""
        os.close(self.fd)

    def _add(self, source: str, event: str, properties: dict[str, str]) -> None:
        self.last += 1
        self._events.append(
            MonitorEvent(
                timestamp=Timestamp.since(self.started_ns, self._clock()),
                source=source,
                event=event,
                properties=properties or None,
                seq=self.last,
            )
        )
        os.eventfd_write(self.fd, 1)
