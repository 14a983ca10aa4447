# SPDX-License-Identifier: Apache-2.0
"""Events as the text of a stream (the HTML standard's server-sent events)."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from api_server.failure import failure
from ipc_protocol.errors import ErrorCode
from ipc_protocol.monitor import MonitorEvent, Timestamp, shown

__all__ = [
    "COMMENT",
    "CONTENT_TYPE",
    "GREETING",
    "ID_PATTERN",
    "LAST_EVENT_ID",
    "Position",
    "event_text",
    "notice_text",
]

CONTENT_TYPE: Final = "text/event-stream"
GREETING: Final = b"retry: 1000\n\n"
"""How long a client is to wait, in milliseconds, before it comes back."""
COMMENT: Final = b":\n\n"
"""Says nothing, and keeps the connection from looking dead."""
SOURCE: Final = "velum"
"""The source of what the server has to say itself."""

LAST_EVENT_ID: Final = "Last-Event-ID"
"""The header by which a client that comes back says how far it was."""
ID_PATTERN: Final = "([0-9a-f]{16})-(0|[1-9][0-9]{0,17})"

_ID = re.compile(ID_PATTERN)


class Position(NamedTuple):
    """How far a reader has come: the id of the last event it has, ``<epoch>-<seq>``."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what a client has kept.

        Raises:
            ApiFailure: ``invalid_request``.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise failure(
                ErrorCode.INVALID_REQUEST,
                f"{LAST_EVENT_ID} {text[:80]!a} is no id of an event; without the header the "
                "stream begins with the next event",
            )
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def event_text(epoch: str, event: MonitorEvent) -> bytes:
    """Return a worker's event; who has it has come to where its id says."""
    head = f"id: {Position(epoch, event.seq)}\n".encode()
    return head + _text(event.source, event.event, shown(event))


def notice_text(event: str, timestamp: Timestamp, **properties: str) -> bytes:
    """Return something the server has to say; it moves nobody on."""
    notice = MonitorEvent(timestamp, SOURCE, event, properties or None)
    return _text(SOURCE, event, shown(notice))


def _text(source: str, event: str, document: dict[str, Any]) -> bytes:
    return b"event: %s.%s\ndata: %s\n\n" % (
        source.encode(),
        event.encode(),
        msgspec.json.encode(document),
    )
