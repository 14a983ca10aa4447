# SPDX-License-Identifier: Apache-2.0
"""A reader of ``GET /api/v1/vmm.events``, which sees every byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

__all__ = ["EventStream", "StreamEvent"]


class StreamEvent(NamedTuple):
    """One event of a stream."""

    id: str | None
    name: str
    data: dict[str, Any]


class EventStream:
    """One connection that reads events.

    Args:
        path: The API's socket.
        host: Names the VM.
        last: The id of the last event that the reader has.
        version: Of HTTP.
        timeout: Seconds within which everything is expected to come.
    """

    def __init__(
        self,
        path: Path,
        *,
        host: str = "localhost",
        last: str | None = None,
        version: str = "1.1",
        timeout: float = 30.0,
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        head = [f"GET /api/v1/vmm.events HTTP/{version}", f"Host: {host}"]
        head += [] if last is None else [f"Last-Event-ID: {last}"]
        self.socket.sendall("".join(f"{line}\r\n" for line in (*head, "")).encode())
        self._raw = bytearray()
        self._text = bytearray()
        self._chunked = version != "1.0"
        self.ended = False
        """Whether the server has said that there is no more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read_head(self) -> str:
        """Return the status line and the headers."""
        while b"\r\n\r\n" not in self._raw:
            assert self._receive(), bytes(self._raw)
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        self._raw = bytearray(rest)
        return head.decode()

    def begin(self) -> Self:
        """Read what comes before the first event."""
        head = self.read_head()
        assert " 200 " in head.partition("\r\n")[0], head
        assert "content-type: text/event-stream" in head.lower()
        assert self._block() == ["retry: 1000"]
        return self

    def next(self) -> StreamEvent | None:
        """Return the next event, or ``None`` at the end."""
        while True:
            lines = self._block()
            if lines is None:
                return None
            fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if fields:
                return StreamEvent(fields.get("id"), fields["event"], json.loads(fields["data"]))

    def until(self, name: str) -> list[StreamEvent]:
        """Return the events up to the first of that name."""
        events: list[StreamEvent] = []
        while not events or events[-1].name != name:
            event = self.next()
            assert event is not None, f"the stream ends before {name}: {events}"
            events.append(event)
        return events

    def rest(self) -> Iterable[StreamEvent]:
        """Return the events up to the end."""
        return iter(self.next, None)

    def _block(self) -> list[str] | None:
        while b"\n\n" not in self._text:
            if not self._take_chunk() and (self.ended or not self._receive()):
                return None
        block, _, rest = bytes(self._text).partition(b"\n\n")
        self._text = bytearray(rest)
        return block.decode().split("\n")

    def _take_chunk(self) -> bool:
        """Move the next piece of the body over; return whether there was one."""
        if not self._chunked:
            self._text += self._raw
            taken = bool(self._raw)
            self._raw.clear()
            return taken
        size, line, rest = bytes(self._raw).partition(b"\r\n")
        if not line or len(rest) < int(size, 16) + 2:
            return False
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        self._text += rest[:length]
        self._raw = bytearray(rest[length + 2 :])
        self.ended = length == 0
        return length > 0

    def _receive(self) -> bool:
        data = self.socket.recv(1 << 16)
        self._raw += data
        return bool(data)
