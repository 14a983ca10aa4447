# SPDX-License-Identifier: Apache-2.0
"""The clients that read events, all of them on one thread."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from api_server.following import Following
from api_server.stream_reader import Reader
from ipc_protocol.monitor import EventBatch

__all__ = ["KEEP_ALIVE", "MAX_READERS", "Streams"]

_log = logging.getLogger(__name__)

MAX_READERS: Final = 256
"""Clients after which the next is refused."""
KEEP_ALIVE: Final = 15.0
"""Seconds between two signs of life to clients for whom there is nothing."""
_LAST_WORDS: Final = 2.0
"""Seconds for the thread to end."""


class Streams:
    """Serves readers of events on a thread that is started when it is needed first.

    So an instance may be made before a fork, and used after it.

    Args:
        patience: Seconds without reading after which a client that has something to read is
            dropped.
    """

    def __init__(self, *, patience: float = 10.0) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._thread: _Thread | None = None

    @property
    def readers(self) -> int:
        """How many clients there are."""
        thread = self._thread
        return 0 if thread is None else thread.readers

    def adopt(self, reader: Reader, worker: Path, start: EventBatch) -> None:
        """Serve a client from now on.

        Args:
            reader: The client.
            worker: The socket of the worker whose events it reads.
            start: What that worker has just said of itself.
        """
        arrival = _Arrival(reader, worker, start)
        with self._lock:
            if self._thread is None or not self._thread.offer(arrival):
                self._thread = _Thread(self._patience)
                self._thread.offer(arrival)
                self._thread.start()

    def close(self) -> None:
        """End all streams, so that the clients see that it is the end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()


class _Arrival(NamedTuple):
    reader: Reader
    worker: Path
    start: EventBatch


class _Thread(threading.Thread):
    """Polls for what clients can take and what workers tell."""

    def __init__(self, patience: float) -> None:
        super().__init__(name="events", daemon=True)
        self._patience = patience
        self._lock = threading.Lock()
        self._arrivals: list[_Arrival] = []
        self._stopping = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(self._wake_fd, select.EPOLLIN)
        self._followed: dict[Path, Following] = {}
        self._workers: dict[int, Following] = {}
        """By descriptor, as the following one."""
        self._clients: dict[int, tuple[Following, Reader]] = {}
        self._next_sign = time.monotonic() + KEEP_ALIVE

    @property
    def readers(self) -> int:
        """How many clients there are; asked by any thread."""
        return len(self._clients) + len(self._arrivals)

    def offer(self, arrival: _Arrival) -> bool:
        """Add a client, unless this thread has come to its end."""
        with self._lock:
            if self._stopping:
                return False
            self._arrivals.append(arrival)
            os.eventfd_write(self._wake_fd, 1)
        return True

    def stop(self) -> None:
        """End all streams and the thread; called by another one."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                os.eventfd_write(self._wake_fd, 1)
        self.join(_LAST_WORDS)

    def run(self) -> None:
        try:
            while not self._stopping:
                self._turn(self._poll.poll(self._wait()))
        except Exception:  # noqa: BLE001 - the clients come back, and find a new thread
            _log.exception("the streams of events ended by an error of ours")
        finally:
            self._end()

    def _turn(self, ready: list[tuple[int, int]]) -> None:
        touched: dict[Following, None] = {}
        for fd, events in ready:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                touched.update(dict.fromkeys(self._welcome()))
            elif fd in self._workers:
                touched[self._workers[fd]] = None
            elif fd in self._clients:
                following, reader = self._clients[fd]
                if events & (select.EPOLLHUP | select.EPOLLERR):
                    self._drop(following, reader, "is gone")
                else:
                    touched[following] = None
        touched.update(dict.fromkeys(self._take_timers()))
        for following in touched:
            self._serve(following)

    def _welcome(self) -> list[Following]:
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
            for reader, worker, start in arrivals:
                following = self._followed.get(worker)
                if following is None:
                    following = self._followed[worker] = Following(worker, start)
                    self._watch(following)
                following.join(reader)
                self._clients[reader.fileno()] = (following, reader)
                # Its end is reported unasked; what else it sends is not read.
                self._poll.register(reader.fileno(), 0)
        return [self._followed[arrival.worker] for arrival in arrivals]

    def _serve(self, following: Following) -> None:
        """Bring a worker and its readers forward, as far as that goes now."""
        again = bool(following.readers)
        while again:
            if following.take():
                self._watch(following)
            for reader in list(following.readers):
                self._send(following, reader)
            again = following.ask()

    def _send(self, following: Following, reader: Reader) -> None:
        try:
            reader.send()
        except OSError:
            self._drop(following, reader, "is gone")
        else:
            self._poll.modify(reader.fileno(), select.EPOLLOUT if reader.behind else 0)

    def _take_timers(self) -> list[Following]:
        """Do what is due, and return for whom."""
        now = time.monotonic()
        for following, reader in list(self._clients.values()):
            if reader.behind and now - reader.since > self._patience:
                self._drop(following, reader, f"reads nothing for {self._patience:g} s")
        due = [
            following
            for following in self._followed.values()
            if following.retry_at is not None and now >= following.retry_at
        ]
        if now >= self._next_sign:
            self._next_sign = now + KEEP_ALIVE
            for _, reader in self._clients.values():
                reader.keep_alive()
            due += self._followed.values()
        return due

    def _wait(self) -> float | None:
        """Return for how long nothing is due."""
        if not self._clients:
            return None
        due = [self._next_sign]
        due += [each.since + self._patience for _, each in self._clients.values() if each.behind]
        due += [each.retry_at for each in self._followed.values() if each.retry_at is not None]
        return max(0.0, min(due) - time.monotonic()) + 0.001

    def _watch(self, following: Following) -> None:
        self._unwatch(following)
        for fd in following.descriptors:
            self._workers[fd] = following
            self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, following: Following) -> None:
        for fd in [fd for fd, each in self._workers.items() if each is following]:
            del self._workers[fd]
            with contextlib.suppress(OSError):  # it may be closed by now
                self._poll.unregister(fd)

    def _drop(self, following: Following, reader: Reader, why: str) -> None:
        _log.info("a reader of the events of %s %s", following.vm, why)
        del self._clients[reader.fileno()]
        self._poll.unregister(reader.fileno())
        following.readers.discard(reader)
        reader.close(end=False)
        if not following.readers:
            self._unwatch(following)
            del self._followed[following.path]
            following.close()

    def _end(self) -> None:
        with self._lock:
            self._stopping = True
            arrivals, self._arrivals = self._arrivals, []
        for reader in [*(each for _, each in self._clients.values()), *(a[0] for a in arrivals)]:
            reader.close(end=True)
        self._clients.clear()
        for following in self._followed.values():
            following.close()
        self._poll.close()
        os.close(self._wake_fd)
