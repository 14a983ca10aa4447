# SPDX-License-Identifier: Apache-2.0
"""What a worker measures of itself, as parts of the answer of ``vmm.metrics``."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ipc_protocol.errors import ErrorCode

__all__ = [
    "LATENCY_BOUNDS",
    "IpcMetrics",
    "Latency",
    "OperationMetrics",
    "ProcessMetrics",
]

LATENCY_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Seconds up to which each bucket of a latency counts; one more has no bound.

A read takes less than a millisecond and is promised in five; a boot may take a minute.
"""

_BUCKETS: Final = len(LATENCY_BOUNDS) + 1


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long something took, each time since the worker's start."""

    counts: Annotated[tuple[int, ...], msgspec.Meta(min_length=_BUCKETS, max_length=_BUCKETS)]
    """Of each bucket alone, not of those below it."""
    sum: float
    """Seconds."""


class OperationMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of the requests for one operation."""

    latency: Latency
    """From its arrival to its answer, success or not."""
    errors: dict[ErrorCode, int]
    """How often it failed, by reason."""


class IpcMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that never became a request, and replies nobody took."""

    refused: int
    """Answered with an error before the worker saw them."""
    dropped: int
    """Without an id to answer under."""
    undelivered: int
    """Replies whose peer was gone or did not read."""
    connections: int = 0
    """Those that stand."""
    ended: dict[str, int] = {}
    """Connections that were refused or ended, by reason."""


class ProcessMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the worker's process uses of the host, the guest included."""

    start_time: float
    """Seconds since the epoch."""
    cpu_seconds: float
    resident_bytes: int
    open_descriptors: int
    threads: int
