# SPDX-License-Identifier: Apache-2.0
"""What a client has sent of its next request, collected until a thread would not wait for more.

It finds where a request ends and nothing else: gunicorn parses it, and where the two should ever
disagree, a thread waits for a client as long as the socket's own timeout allows.
"""

from __future__ import annotations

import enum
import re

__all__ = ["MAX_COLLECTED", "Intake", "Progress"]

MAX_COLLECTED = 16 << 10
"""Bytes; no request but one with a large body is larger."""

_BLANK = b"\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_FRAMING = re.compile(
    rb"\r\n(?:(content-length)|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_DIGITS = re.compile(rb"[0-9]+")
_MAX_DIGITS = 18


class Progress(enum.Enum):
    """How far the next request has come."""

    PART = enum.auto()
    """It has begun, or it has not: more is to be awaited."""
    WHOLE = enum.auto()
    """All of it is here, or enough to refuse it."""
    LONG = enum.auto()
    """Only who reads along can say where it ends, or it is too large to be collected."""


class Intake:
    """The bytes of one connection that no thread has taken yet."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._size: int | None = None

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self._data += data
        # Some clients end a body with an empty line that belongs to nothing (RFC 9112 section 2.2).
        while self._data.startswith(_BLANK):
            del self._data[: len(_BLANK)]

    def take(self) -> bytes:
        """Give everything away: the next request, and what follows it."""
        data = bytes(self._data)
        self._data.clear()
        self._searched, self._size = 0, None
        return data

    def progress(self) -> Progress:
        """Tell whether the first request is complete."""
        if self._size is None:
            end = self._data.find(_END_OF_HEAD, self._searched)
            if end < 0:
                self._searched = max(0, len(self._data) - len(_END_OF_HEAD) + 1)
                return Progress.LONG if len(self._data) > MAX_COLLECTED else Progress.PART
            head = bytes(self._data[: end + len(_BLANK)])
            self._size = end + len(_END_OF_HEAD) + _body_size(head)
        if self._size > MAX_COLLECTED:
            return Progress.LONG
        return Progress.WHOLE if len(self._data) >= self._size else Progress.PART


def _body_size(head: bytes) -> int:
    """Return the size of the body that a head announces; of one without a size, too much."""
    size = 0
    for length, value in _FRAMING.findall(head):
        if not length or len(value) > _MAX_DIGITS:
            return MAX_COLLECTED
        if _DIGITS.fullmatch(value):
            size = int(value)
    return size
