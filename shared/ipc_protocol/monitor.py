# SPDX-License-Identifier: Apache-2.0
"""The event monitor: what a worker tells of its VM's life, and how it is asked for news."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

__all__ = [
    "MAX_WAIT_MS",
    "EventBatch",
    "EventsQuery",
    "MonitorEvent",
    "Timestamp",
    "shown",
]

MAX_WAIT_MS: Final = 30_000
"""How long a worker keeps a question for events."""
_NANOSECONDS: Final = 1_000_000_000

# \Z, because $ would let a line feed through: these become lines of what clients read.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z-]{1,64}\Z")]
_Epoch = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class Timestamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time since the worker's start."""

    secs: int
    nanos: int

    @classmethod
    def since(cls, start_ns: int, now_ns: int) -> Timestamp:
        """Return the time between two readings of one clock."""
        return cls(*divmod(max(0, now_ns - start_ns), _NANOSECONDS))


class MonitorEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event; names and members are Cloud Hypervisor's."""

    timestamp: Timestamp
    source: _Name
    """``vmm``, ``vm``, ``virtio-device`` or ``guest``."""
    event: _Name
    properties: dict[str, str] | None = None
    seq: int = 0
    """1 for the first event of a worker, and one more for each that follows."""


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a reader has seen, and how long it would wait for more: ``vmm.events``."""

    epoch: str | None = None
    """Whose events were seen; those of another worker count as none."""
    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    """The last that was seen. ``None`` asks only where the events have got to."""
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_WAIT_MS)] = 0


class EventBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events after the last one that was seen, oldest first, as many as fit."""

    epoch: _Epoch
    """What no other worker process has."""
    started_ns: int
    """When the worker started, in ``CLOCK_MONOTONIC``: what timestamps count from."""
    last: int
    """``seq`` of the newest event there is."""
    events: tuple[MonitorEvent, ...] = ()
    lost: bool = False
    """Whether there were events between the last one seen and these."""


def shown(event: MonitorEvent) -> dict[str, Any]:
    """Return an event as the reference writes it, which knows no ``seq``."""
    document: dict[str, Any] = msgspec.to_builtins(event)
    del document["seq"]
    return document
