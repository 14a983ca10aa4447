# SPDX-License-Identifier: Apache-2.0
"""A client's connection: what it has sent, what it has yet to read, how long it may take."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn

from api_server.intake import MAX_COLLECTED, Intake, Progress

__all__ = ["ClientSocket", "Connection", "Heir"]

_PIECE = 1 << 16
_DRAIN = 16
"""Pieces after which a client that goes on sending gets its reset."""


Heir: TypeAlias = Callable[[socket.socket, bytes], None]
"""Takes a connection over, and what is yet to be sent on it."""


class ClientSocket(socket.socket):
    """A socket on which sending does not wait: what is sent is kept until ``send_on``."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self._unsent: deque[memoryview] = deque()
        self.heir: Heir | None = None
        """Who goes on with the answer from here; gunicorn does not get to end it."""

    @property
    def behind(self) -> bool:
        """Whether there is something that the client has not taken."""
        return bool(self._unsent)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own
        """Tell the kernel only when it is news: gunicorn says it several times a request."""
        if flag != self.getblocking():
            super().setblocking(flag)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Keep what is to be sent; the head and the body of an answer go together."""
        del flags
        if self.heir is None:
            self._unsent.append(memoryview(data))

    def send_on(self) -> None:
        """Send what the client takes now."""
        while self._unsent:
            try:
                sent = self.sendmsg(self._unsent, (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            while self._unsent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.popleft())
            if sent:
                self._unsent[0] = self._unsent[0][sent:]

    def bequeath(self) -> bool:
        """Give the connection to its heir, if it has one; closing ours does not end it then."""
        if self.heir is None:
            return False
        unsent = b"".join(self._unsent)
        self._unsent.clear()
        self.heir(socket.fromfd(self.fileno(), self.family, self.type), unsent)
        return True


class Connection(TConn):
    """A connection that no thread is with while it waits for its client.

    Args:
        cfg: gunicorn's settings.
        client: The socket, as it was accepted.
        address: Where it comes from, and
        server: where it arrived.
        patience: Seconds for which a thread waits for the next bytes of a long request.
    """

    def __init__(
        self, cfg: Any, client: socket.socket, address: Any, server: Any, *, patience: float
    ) -> None:
        self.sock: ClientSocket
        super().__init__(cfg, ClientSocket(client), address, server)
        # The kernel's timeout, because gunicorn sets and unsets Python's.
        seconds, rest = divmod(patience, 1)
        limit = struct.pack("@ll", int(seconds), int(rest * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._intake = Intake()
        self._ended = False
        self.open = True
        """Whether the connection goes on once the client has read what there is."""
        self.served = 0
        self.since = time.monotonic()
        self.deadline = float("inf")
        """When the client will have taken too long, by the monotonic clock."""

    @property
    def started(self) -> bool:
        """Whether a part of a request is here."""
        return len(self._intake) > 0

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is yet to be read: it may end any time."""
        return not (self.started or self.behind)

    @property
    def ready(self) -> bool:
        """Whether a thread is to have it: for a request, or to answer the half of one."""
        return self._intake.progress() is not Progress.PART or (self._ended and self.started)

    @property
    def long(self) -> bool:
        """Whether a thread that has it will wait for the client."""
        return self._intake.progress() is Progress.LONG

    @property
    def behind(self) -> bool:
        """Whether the client has yet to read an answer."""
        return self.sock.behind

    def receive(self) -> None:
        """Take what has come, without waiting.

        Raises:
            OSError: The client is gone.
        """
        try:
            data = self.sock.recv(MAX_COLLECTED, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self._intake.feed(data)
        if not data:
            self._ended = True
            self.open = self.started

    def hand_over(self) -> None:
        """Have gunicorn's parser find what has come, before it reads by itself."""
        self.init()
        self._requests().unreader.unread(self._intake.take())
        self.served += 1

    def take_back(self) -> None:
        """Take what the parser has read of the requests to come."""
        self._intake.feed(self._requests().unreader.take_buffered())

    def _requests(self) -> RequestParser:
        assert isinstance(self.parser, RequestParser)  # noqa: S101 - HTTP/2 is not offered
        return self.parser

    def send_on(self) -> None:
        """Send what the client takes of the answers; raises ``OSError`` if it is gone."""
        self.sock.send_on()

    def bequeath(self) -> bool:
        """Let go of the connection if somebody goes on with it; return whether that is so."""
        return self.sock.bequeath()

    def end_input(self) -> None:
        """Have what has come be all that comes: the client took too long."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close; ``graceful`` if what was sent is to be read by the client.

        On a UNIX socket it can always be read, but its end is a reset instead of an end of file
        while there is input that nobody has read. gunicorn would wait two seconds for the client
        here, on the thread that polls for all.
        """
        with contextlib.suppress(OSError):
            for _ in range(_DRAIN if graceful else 0):
                if not self.sock.recv(_PIECE, socket.MSG_DONTWAIT):
                    break
        self.sock.close()
