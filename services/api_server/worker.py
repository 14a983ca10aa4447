# SPDX-License-Identifier: Apache-2.0
"""The process that serves: gunicorn's threaded worker with Velum's error pages and limits."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import selectors
import socket
import struct
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from api_server import problem, request_ids
from api_server.failure import explain, failure
from ipc_protocol.errors import ErrorCode

__all__ = ["ApiWorker"]

SERVER_NAME = "Velum API"
_DRAIN = 16
"""Reads of 64 KiB after which a client that goes on sending gets its reset."""
LINGER_MS = 2
"""How long a thread waits for the next request of the client it has just answered."""

# gunicorn has no setting for the Server header; each Response copies this global.
wsgi.SERVER = SERVER_NAME  # type: ignore[attr-defined] # imported there, so not in its stub


class _Connection(TConn):
    """A connection that ends without waiting for its client."""

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close; ``graceful`` if what was sent is to be read by the client.

        On a UNIX socket it can always be read, but its end is a reset instead of an end of file
        while there is input that nobody has read. gunicorn would wait two seconds for the client
        here, on the thread that polls for all.
        """
        with contextlib.suppress(OSError):
            self.sock.setblocking(False)  # noqa: FBT003
            for _ in range(_DRAIN if graceful else 0):
                if not self.sock.recv(1 << 16):
                    break
        self.sock.close()


class ApiWorker(ThreadWorker):
    """Serves requests on threads until told to stop, or until its parent is gone."""

    lifeline: tuple[int, int] | None = None
    """A pipe whose writing end only the parent keeps: end of file means that it died."""
    client_timeout = 10.0
    """Seconds without a byte after which a client in the middle of a request is given up."""

    def run(self) -> None:
        """Serve. Called in the child, after the fork."""
        if self.lifeline is not None:
            reading, writing = self.lifeline
            os.close(writing)
            self.poller.register(reading, selectors.EVENT_READ, self._parent_died)
        super().run()

    @staticmethod
    def _parent_died(_fileobj: int) -> None:
        # An orphan would hold the socket, and a new server could not have it.
        os._exit(1)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and wait for its first bytes, which no thread has to do."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        # The kernel's timeouts, because gunicorn sets and unsets Python's.
        seconds, rest = divmod(self.client_timeout, 1)
        limit = struct.pack("@ll", int(seconds), int(rest * 1e6))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        conn = _Connection(self.cfg, client, address, listener.getsockname())
        conn.set_timeout()
        self.nr_conns += 1
        self.pending_conns.append(conn)
        readable = functools.partial(self.on_pending_socket_readable, conn)
        self.poller.register(client, selectors.EVENT_READ, readable)

    def handle(self, conn: TConn) -> Any:
        """Serve the requests of a connection, on a thread of the pool.

        Between two requests gunicorn hands the connection to the polling thread and gets it back
        on another thread, four switches that cost more than most requests. So the thread stays
        with its client for a moment, unless another one waits for a thread.
        """
        keep = super().handle(conn)
        while keep is True and self.alive and self._next_request_comes(conn):
            keep = super().handle(conn)
        return keep

    def _next_request_comes(self, conn: TConn) -> bool:
        parser = conn.parser
        served = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        # What was read ahead is for finish_request() to find.
        if (
            served > self.cfg.threads
            or not isinstance(parser, RequestParser)
            or parser.unreader.buf.getvalue()
        ):
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(LINGER_MS))

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
