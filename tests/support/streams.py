# SPDX-License-Identifier: Apache-2.0
"""Byte streams to an echo: what is sent on each, at once, is to come back on it unchanged."""

from __future__ import annotations

import selectors
import socket

__all__ = ["SILENCE", "Stream", "exchange"]

CHUNK = 1 << 16
SILENCE = 120.0
"""Seconds without any news after which nothing more will come."""


class Stream:
    """One connection to an echo.

    Args:
        connection: Closed by its owner.
        size: Bytes to send.
        number: Streams of different numbers send different bytes.
    """

    def __init__(self, connection: socket.socket, size: int, number: int = 0) -> None:
        self.connection = connection
        self.size = size
        self.sent = self.received = 0
        # A period that divides no buffer's size: what is lost or doubled is seen.
        period = bytes((number + index * index) % 251 for index in range(1009))
        self._period = len(period)
        self._pattern = memoryview(period * (2 + CHUNK // len(period)))

    def _piece(self, position: int, length: int) -> memoryview:
        start = position % self._period
        return self._pattern[start : start + length]

    def send(self) -> bool:
        """Send what fits; return whether there is more."""
        piece = self._piece(self.sent, min(CHUNK, self.size - self.sent))
        self.sent += self.connection.send(piece)
        if self.sent == self.size:
            self.connection.shutdown(socket.SHUT_WR)
        return self.sent < self.size

    def receive(self) -> bool:
        """Compare what came; return whether there is more."""
        data = self.connection.recv(CHUNK)
        assert data == self._piece(self.received, len(data)), f"changed behind {self.received}"
        self.received += len(data)
        return bool(data)


def exchange(streams: list[Stream]) -> None:
    """Send and receive on all of them at once until all have everything back."""
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            stream.connection.setblocking(False)
            selector.register(stream.connection, both, stream)
        while selector.get_map():
            ready = selector.select(SILENCE)
            assert ready, [(stream.sent, stream.received) for stream in streams]
            for key, events in ready:
                if events & selectors.EVENT_WRITE and not key.data.send():
                    selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                if events & selectors.EVENT_READ and not key.data.receive():
                    selector.unregister(key.fileobj)
    assert [stream.received for stream in streams] == [stream.size for stream in streams]
