# SPDX-License-Identifier: Apache-2.0
"""What this process uses of its host, as the kernel keeps count of it."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Final

from ipc_protocol.metrics import ProcessMetrics

__all__ = ["allow_descriptors", "private_memory", "process_metrics"]

_STARTED: Final = time.time()
"""Close enough: this module is loaded while the process starts."""
_KIB: Final = 1024


def allow_descriptors() -> None:
    """Raise the limit on descriptors as far as it goes.

    Each connection of the guest's and each to this process has one; libzmq, when it has none for
    another, ends the process.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def process_metrics() -> ProcessMetrics:
    """Return what the process uses, its guest included."""
    status = _status()
    return ProcessMetrics(
        start_time=_STARTED,
        cpu_seconds=time.process_time(),
        resident_bytes=_bytes(status, "VmRSS", "HugetlbPages"),
        open_descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,  # the listing's own
        threads=int(status["Threads"]),
    )


def private_memory() -> int:
    """Return the bytes of RAM that hold what is in no file: all guest RAM is, if it is there.

    The kernel has these sums at hand. To know the share of one mapping it would walk the page
    tables, which for a large guest takes longer than a monitoring system may cost it.
    """
    return _bytes(_status(), "RssAnon", "RssShmem", "HugetlbPages")


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def _bytes(status: dict[str, str], *names: str) -> int:
    return sum(int(status.get(name, "0").removesuffix(" kB")) for name in names) * _KIB
