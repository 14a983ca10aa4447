# SPDX-License-Identifier: Apache-2.0
"""The virtio devices under load: Velum's beside QEMU's, in turn, row by row."""

from __future__ import annotations

import contextlib
import fnmatch
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.guests.linux import Guest
from tests.integration.performance.beside import Comparisons, Figures
from tests.integration.performance.peers import Load, Peer, peers

__all__ = ["measure"]

_SECONDS = 2.0
_GIB = 1 << 30
_MIB = 1 << 20


class _Row(NamedTuple):
    """One kind of load, and what of it is told."""

    name: str
    unit: str
    load: Callable[[Peer], Load]

    def figures(self, load: Load) -> Figures:
        """Work out the speed, and the CPU time for each GiB or each operation."""
        if self.unit == "MiB/s":
            amount, cost = load.bytes / _MIB, load.cpu_seconds / (load.bytes / _GIB)
        else:
            amount, cost = load.operations, load.cpu_seconds * 1e6 / load.operations
        return Figures(amount / load.seconds, cost)

    @property
    def cost_unit(self) -> str:
        """Of the CPU time."""
        return "s/GiB" if self.unit == "MiB/s" else "us"


def _disk(access: str, order: str, block: int, depth: int, jobs: int) -> Callable[[Peer], Load]:
    return lambda peer: peer.disk(
        access, order, block=block, depth=depth, jobs=jobs, seconds=_SECONDS
    )


def _stream(direction: str, streams: int, *, vhost: bool) -> Callable[[Peer], Load]:
    return lambda peer: peer.stream(direction, streams, _SECONDS, vhost=vhost)


def _ping(*, vhost: bool) -> Callable[[Peer], Load]:
    return lambda peer: peer.ping(_SECONDS, vhost=vhost)


def _vsock(what: str) -> Callable[[Peer], Load]:
    return lambda peer: peer.vsock(what, _SECONDS)


def _rows() -> Iterator[_Row]:
    for access in ("read", "write"):
        for shape, depth, jobs in (("depth 1", 1, 1), ("depth 32", 32, 1), ("4 jobs", 32, 4)):
            load = _disk(access, "random", 4096, depth, jobs)
            yield _Row(f"disk, 4k random {access}, {shape}", "1/s", load)
    for access in ("read", "write"):
        load = _disk(access, "sequential", _MIB, 4, 1)
        yield _Row(f"disk, 1 MiB sequential {access}", "MiB/s", load)
    for vhost in (True, False):
        kind = "vhost-net" if vhost else "no vhost"
        for way, direction in (("guest to host", "send"), ("host to guest", "receive")):
            for streams in (1, 4):
                name = f"{kind}, TCP {way}, {streams} stream{'s' * (streams > 1)}"
                yield _Row(name, "MiB/s", _stream(direction, streams, vhost=vhost))
        yield _Row(f"{kind}, TCP 1-byte ping-pong", "1/s", _ping(vhost=vhost))
    yield _Row("vsock, guest to host", "MiB/s", _vsock("send"))
    yield _Row("vsock, host to guest", "MiB/s", _vsock("receive"))
    yield _Row("vsock, 1-byte ping-pong", "1/s", _vsock("ping"))


def measure(results: Comparisons, guest: Guest, runs: int, wanted: Sequence[str]) -> None:
    """Measure each row whose name one of the patterns matches."""
    rows = [row for row in _rows() if any(fnmatch.fnmatch(row.name, each) for each in wanted)]
    if not rows:
        return
    with contextlib.ExitStack() as stack:
        # Not in /tmp, which may be memory and then knows no direct I/O.
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="velum-bench-", dir="/var/tmp")
        )
        both = stack.enter_context(peers(guest, Path(directory)))
        for run in range(runs):
            sys.stderr.write(f"devices: run {run + 1} of {runs}\n")
            for row in rows:
                velum, qemu = (row.figures(row.load(peer)) for peer in both)
                results.add(row.name, row.unit, row.cost_unit, velum, qemu)
