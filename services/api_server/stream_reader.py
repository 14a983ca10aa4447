# SPDX-License-Identifier: Apache-2.0
"""One client that reads events: where it has got to, and what waits for it to read on."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Final

from api_server.event_text import COMMENT, Position

__all__ = ["HIGH_WATER", "Reader"]

HIGH_WATER: Final = 64 << 10
"""Bytes that may wait for a client before it is given more events; the worker keeps those."""
_PIECE: Final = 1 << 16
_DRAIN: Final = 16
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Reader:
    """The connection of a client, and its position among a worker's events.

    Args:
        connection: A socket that is the reader's from now on.
        unsent: What goes before the first event.
        position: The last event that the client has.
        chunked: Whether the body is framed (RFC 9112 section 7.1); if not, it ends with the
            connection.
    """

    def __init__(
        self, connection: socket.socket, unsent: bytes, position: Position, *, chunked: bool
    ) -> None:
        self._connection = connection
        self._unsent = bytearray(unsent)
        self._chunked = chunked
        self.position = position
        self.since = time.monotonic()
        """When it last took something, or had something to take."""

    def fileno(self) -> int:
        """Return the descriptor, for a poller."""
        return self._connection.fileno()

    @property
    def behind(self) -> bool:
        """Whether something waits for it."""
        return bool(self._unsent)

    @property
    def full(self) -> bool:
        """Whether too much waits for it to be given more."""
        return len(self._unsent) > HIGH_WATER

    def tell(self, text: bytes) -> None:
        """Add something to what the client is to read."""
        if not self._unsent:
            self.since = time.monotonic()
        if self._chunked:
            self._unsent += b"%x\r\n%s\r\n" % (len(text), text)
        else:
            self._unsent += text

    def feed(self, texts: Sequence[bytes], position: Position) -> None:
        """Add those events that the client does not have yet.

        Args:
            texts: Consecutive events of one worker.
            position: That of the last of them.
        """
        missing = position.seq - self.position.seq
        if missing > 0:
            self.tell(b"".join(texts[-missing:]))
            self.position = position

    def keep_alive(self) -> None:
        """Show that the connection is not dead, if nothing else does."""
        if not self._unsent:
            self.tell(COMMENT)

    def send(self) -> None:
        """Send what the client takes now.

        Raises:
            OSError: It is gone.
        """
        while self._unsent:
            try:
                sent = self._connection.send(
                    memoryview(self._unsent)[:_PIECE].tobytes(),
                    socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                )
            except BlockingIOError:
                return
            self.since = time.monotonic()
            del self._unsent[:sent]

    def close(self, *, end: bool) -> None:
        """Close the connection.

        Args:
            end: Whether to tell the client that this is the end; without that it can see that
                something is missing.
        """
        with contextlib.suppress(OSError):
            if end:
                self._unsent += _LAST_CHUNK if self._chunked else b""
                self.send()
            # With unread input the client would see a reset in place of what was sent last.
            for _ in range(_DRAIN):
                if not self._connection.recv(_PIECE, socket.MSG_DONTWAIT):
                    break
        self._connection.close()
