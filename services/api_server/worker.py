# SPDX-License-Identifier: Apache-2.0
"""The process that serves: gunicorn's threaded worker, whose threads do not wait for clients.

The polling thread collects requests and sends on answers; a thread of the pool has a connection
only while a whole request of it is at work. So clients that send or read slowly, or not at all,
cost no thread, whatever their number; requests that only a reader can tell the end of have a few
threads of their own. When there are too many connections, one that waits is closed for each new.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import selectors
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from api_server import problem, request_ids
from api_server.connection import Connection
from api_server.dates import http_date
from api_server.failure import explain, failure
from api_server.metrics.own import ApiMetrics
from api_server.streams import Streams
from ipc_protocol.errors import ErrorCode
from service_manager.notify import notify as tell_manager

__all__ = ["ApiWorker"]

SERVER_NAME = "Velum API"
LINGER_MS = 2
"""How long a thread waits for the next request of the client it has just answered."""
LONG_SHARE = 4
"""One thread in this many, on top of the others, is for requests that are read by a thread."""
METRICS_THREADS = 2
"""However long all others wait for workers, what they wait for can be seen."""
LONG_PATIENCE = 6
"""How many times the client's timeout such a request may take altogether."""
REST = 1.0
"""Seconds that a thread waits for the rest of a body that nobody wants, to keep the connection."""
LINGER = 2.0
"""Seconds for which a server that is to end goes on serving who is connected."""
_LOOK = 0.25
"""Seconds between two looks at who has taken too long."""
_STATUS_PERIOD = 5.0
"""Seconds between two status lines; each costs the service manager a message to all who look."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread has the interpreter while another one wants it."""

# gunicorn has no setting for the Server header; each Response copies this global.
wsgi.SERVER = SERVER_NAME  # type: ignore[attr-defined] # imported there, so not in its stub
# Nor one for the Date, which it spells anew for each answer.
util.http_date = http_date


class ApiWorker(ThreadWorker):
    """Serves requests on threads until told to stop, or until its parent is gone."""

    lifeline: tuple[int, int] | None = None
    """A pipe whose writing end only the parent keeps: end of file means that it died."""
    metrics: ApiMetrics
    """Where it counts; given before the fork."""
    metrics_paths: frozenset[str] = frozenset()
    """Where who connects is served by threads that wait for nothing else."""
    listening: str
    """Where all connect, for the service manager's status line."""
    streams: Streams
    """Connections that have gone on to be streams of events, and end with the others."""
    client_timeout = 10.0
    """Seconds that a client may take for a request or for reading an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parked: dict[Connection, None] = {}
        """Those that the polling thread has, longest first."""
        self._reading: set[Connection] = set()
        """Those of long requests, which a thread has."""
        self._next_look = 0.0
        self._next_status = 0.0
        self._status = ""

    def init_process(self) -> None:
        """Serve; called in the child, after the fork."""
        threads = max(1, self.cfg.threads // LONG_SHARE)
        self._long_pool = ThreadPoolExecutor(threads, "long")
        self._metrics_pool = ThreadPoolExecutor(METRICS_THREADS, "metrics")
        # A thread that is busy, with the metrics of many VMs say, is not to keep the others
        # waiting for the interpreter the default 5 ms each of the many times they need it.
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.metrics.watch_connections(
            served=lambda: self.served,
            waiting=lambda: self.waiting,
            streaming=lambda: self.streams.readers,
        )
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop."""
        if self.lifeline is not None:
            reading, writing = self.lifeline
            os.close(writing)
            self.poller.register(reading, selectors.EVENT_READ, self._parent_died)
        super().run()
        self._long_pool.shutdown(wait=False)
        self._metrics_pool.shutdown(wait=False)
        self.streams.close()

    def notify(self) -> None:
        """Give a sign of life; called after each event, and every second."""
        super().notify()
        now = time.monotonic()
        if now < self._next_status:
            return
        self._next_status = now + _STATUS_PERIOD
        status = (
            f"serving {self.listening}: {_count(self.nr_conns, 'connection')}, "
            f"{_count(self.streams.readers, 'event stream')}"
        )
        if status != self._status and tell_manager(READY=1, STATUS=status):
            self._status = status

    @property
    def waiting(self) -> int:
        """How many connections wait for their clients."""
        return len(self._parked)

    @property
    def served(self) -> int:
        """How many connections a thread is with, or is to be."""
        return self.nr_conns - self.waiting

    @staticmethod
    def _parent_died(_fileobj: int) -> None:
        # An orphan would hold the socket, and a new server could not have it.
        os._exit(1)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and close another one if there are too many."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        conn = Connection(
            self.cfg, client, address, listener.getsockname(), patience=self.client_timeout
        )
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections and self._parked:
            # Who has been served before may have good reasons to come back.
            self._drop(min(self._parked, key=lambda each: (each.served > 0, each.since)))
        self._settle(conn)

    def _settle(self, conn: Connection) -> None:
        """Send a connection that nobody is with on: to its client, a thread, or its end."""
        if conn.behind:
            self._park(conn, selectors.EVENT_WRITE)
        elif not conn.open:
            self._end(conn)
        elif conn.ready:
            self.enqueue_req(conn)
        else:
            self._park(conn, selectors.EVENT_READ)

    def _park(self, conn: Connection, events: int) -> None:
        conn.since = time.monotonic()
        idle = LINGER if not self.alive else self.cfg.keepalive
        conn.deadline = conn.since + (idle if conn.idle else self.client_timeout)
        self._parked[conn] = None
        self.poller.register(conn.sock, events, functools.partial(self._on_event, conn))

    def _unpark(self, conn: Connection) -> None:
        del self._parked[conn]
        self.poller.unregister(conn.sock)

    def _on_event(self, conn: Connection, _fileobj: object) -> None:
        if conn not in self._parked:
            return  # closed since the poller saw it
        begun = conn.started
        try:
            if conn.behind:
                conn.send_on()
                progress = not conn.behind
            else:
                conn.receive()
                # What trickles in does not buy time.
                progress = conn.ready or not conn.open or not begun
        except OSError:
            self._drop(conn)
            return
        if progress:
            self._unpark(conn)
            self._settle(conn)

    def _retire(self, conn: Connection) -> None:
        """Close a connection on which nothing was asked, unless that is just being done.

        What the client sends from now on fails with its sending, so it knows that nothing was
        done; what it has sent until now is here, and is answered.
        """
        conn.end_input()
        with contextlib.suppress(OSError):
            conn.receive()
        if conn.ready and not conn.long:
            self._unpark(conn)
            self._settle(conn)
        else:
            self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        self._unpark(conn)
        conn.open = False
        self._end(conn)

    def _end(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close(graceful=True)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection with a request to a thread."""
        pool = self.tpool
        if conn.long:
            pool = self._long_pool
            conn.deadline = float("inf")
            self._reading.add(conn)
        elif conn.server in self.metrics_paths:
            pool = self._metrics_pool
        request: Future[Any] = pool.submit(self.handle, conn)
        request.add_done_callback(
            lambda done: self.method_queue.defer(self.finish_request, conn, done)
        )

    def handle(self, conn: Any) -> Any:
        """Serve the requests of a connection, on a thread of a pool.

        Between two requests the connection goes to the polling thread and from there to another
        thread, four switches that cost more than most requests. So the thread stays with its
        client for a moment, unless another one waits for a thread.
        """
        while True:
            if conn in self._reading:
                conn.deadline = time.monotonic() + LONG_PATIENCE * self.client_timeout
            conn.hand_over()
            keep = super().handle(conn) is True
            if conn.bequeath():
                return False
            conn.send_on()
            if not keep:
                return False
            conn.take_back()
            if not (self.alive and self._next_request_comes(conn)):
                return True

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:  # noqa: FBT001 - gunicorn's
        # The rest of a request that is not long is here: there is nothing to wait for.
        seconds = REST if conn in self._reading else self.client_timeout
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + seconds))

    def _next_request_comes(self, conn: Connection) -> bool:
        if self.served > self.cfg.threads or conn.behind:
            return False
        if not conn.ready:
            poll = select.poll()
            poll.register(conn.sock, select.POLLIN)
            if not poll.poll(LINGER_MS):
                return False
            conn.receive()
        return conn.ready and not conn.long

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Take a connection back from its thread; called on the polling thread."""
        self._reading.discard(conn)
        if fs.cancelled() or fs.exception() is not None:
            self._end(conn)
            return
        conn.open = conn.open and fs.result()
        self._settle(conn)

    def murder_pending(self) -> None:
        """Give up the clients that took too long; called after each event."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK
        for conn in [each for each in self._parked if each.deadline < now]:
            if conn.idle:
                self._retire(conn)
            elif conn.behind:
                self._drop(conn)
            else:
                conn.end_input()
        for conn in self._reading:
            if conn.deadline < now:
                conn.end_input()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close what waits, at the end; in between ``murder_pending`` looks at all there are."""
        if force:
            for conn in list(self._parked):
                self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self._parked:
            if conn.idle:
                conn.deadline = min(conn.deadline, deadline)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that did not reach the application as HTTP."""
        del req, addr
        with request_ids.made() as request_id:
            if isinstance(exc, ParseException):
                message = f"this is not HTTP/1.1: {exc}"
                ex: BaseException = failure(ErrorCode.INVALID_REQUEST, message)
                self.log.warning("refused a request: %a", str(exc))
            else:
                ex = exc
            document = problem.problem(explain(ex), request_id)
        self.metrics.note_refusal(document.status)
        body = problem.encode(document)
        head = (
            f"HTTP/1.1 {document.status} {document.title}\r\n"
            f"Server: {SERVER_NAME}\r\n"
            "Connection: close\r\n"
            f"Content-Type: {problem.CONTENT_TYPE}\r\n"
            f"{request_ids.HEADER}: {request_id}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode("latin-1") + body)
        except OSError as ex:
            self.log.debug("the client did not wait for its error: %s", ex)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
