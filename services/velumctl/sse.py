# SPDX-License-Identifier: Apache-2.0
"""Server-sent events, as the HTML standard has them (section 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["ServerEvent", "parse"]


class ServerEvent(NamedTuple):
    """One event of a stream."""

    id: str
    """Where to go on from, after a loss of the connection."""
    name: str
    data: str


def parse(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield each event that is complete; comments keep the connection alive and are nothing."""
    last_id = name = ""
    data: list[str] = []
    for raw in lines:
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield ServerEvent(last_id, name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id":
                last_id = value
            case "event":
                name = value
            case "data":
                data.append(value)
