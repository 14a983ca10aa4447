# SPDX-License-Identifier: Apache-2.0
"""The process that serves: gunicorn's threaded worker with Velum's error pages and limits."""

from __future__ import annotations

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
from ipc_protocol.errors import ErrorCode

from api_server import problem
from api_server.failure import explain, failure

__all__ = ["ApiWorker"]

SERVER_NAME = "Velum API"
RECEIVE_TIMEOUT = 10
"""Seconds without a byte after which a client in the middle of a request is given up."""

LINGER_MS = 2
"""How long a thread waits for the next request of the client it has just answered."""

# gunicorn has no setting for the Server header; each Response copies this global.
wsgi.SERVER = SERVER_NAME  # type: ignore[attr-defined] # imported there, so not in its stub


class ApiWorker(ThreadWorker):
    """Serves requests on threads until told to stop, or until its parent is gone."""

    lifeline: tuple[int, int] | None = None
    """A pipe whose writing end only the parent keeps: end of file means that it died."""

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

    def handle(self, conn: TConn) -> Any:
        """Serve the requests of a connection, on a thread of the pool.

        Between two requests gunicorn hands the connection to the polling thread and gets it back
        on another thread, four switches that cost more than most requests. So the thread stays
        with its client for a moment, unless another one waits for a thread.
        """
        if not conn.initialized:
            limit = struct.pack("@ll", RECEIVE_TIMEOUT, 0)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
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
        if isinstance(exc, ParseException):
            ex: BaseException = failure(ErrorCode.INVALID_REQUEST, f"This is not HTTP/1.1: {exc}")
            self.log.warning("refused a request: %a", str(exc))
        else:
            ex = exc
        document = problem.problem(explain(ex))
        body = problem.encode(document)
        head = (
            f"HTTP/1.1 {document.status} {document.title}\r\n"
            f"Server: {SERVER_NAME}\r\n"
            "Connection: close\r\n"
            f"Content-Type: {problem.CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode("latin-1") + body)
        except OSError as ex:
            self.log.debug("the client did not wait for its error: %s", ex)
