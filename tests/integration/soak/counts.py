# SPDX-License-Identifier: Apache-2.0
"""What there is of everything that could be left behind, and what of it is too much."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.integration.soak.host import Host
from tests.support.hostile import Usage
from tests.support.processes import descriptors_of

__all__ = ["ApiCounts", "WorkerCounts"]

_MIB: Final = 1 << 20
_WORKER_GROWTH: Final = 5 * _MIB
"""A worker that had hundreds of VMs has less to spare in its heap than one that had one."""
_SETTLING: Final = 1.0
"""Seconds in which nothing may change for a count to count."""
_API_GROWTH: Final = 8 * _MIB
_API_THREADS: Final = 12
"""Its pool has as many as were ever busy at once, and the callers are few."""
_PER_WORKER: Final = 12
"""Descriptors of the connections to one worker that the API keeps: one for each of its callers."""


class WorkerCounts(NamedTuple):
    """Everything of the workers', taken while no API holds a connection to them."""

    usage: dict[str, Usage]
    """By VM; each has had one, and has none now."""
    descriptors: dict[str, list[str]]
    """By VM: what they are."""
    files: frozenset[str]
    cgroups: frozenset[str]

    @classmethod
    def of(cls, host: Host) -> Self:
        """Count, once the last connections are closed."""
        before, now = None, cls._at_this_moment(host)
        while before != now:
            time.sleep(_SETTLING)
            before, now = now, cls._at_this_moment(host)
        return now

    @classmethod
    def _at_this_moment(cls, host: Host) -> Self:
        workers = host.workers()
        return cls(
            usage={name: Usage.of(pid) for name, pid in workers.items()},
            descriptors={name: descriptors_of(pid) for name, pid in workers.items()},
            files=frozenset(_below(host.folders())),
            cgroups=frozenset(map(str, host.cgroups())),
        )

    def leaks_since(self, before: WorkerCounts) -> list[str]:
        """Return what there is now and should not be, in words."""
        found = [
            *(f"the file {path} was left" for path in sorted(self.files - before.files)),
            *(f"the control group {path} was left" for path in self.cgroups - before.cgroups),
        ]
        for name, usage in self.usage.items():
            growth = usage.growth_since(before.usage[name])
            if growth.descriptors > 0:
                more = Counter(self.descriptors[name]) - Counter(before.descriptors[name])
                kinds = ", ".join(more.elements())
                found.append(f"{name}: {growth.descriptors} descriptors more: {kinds}")
            if growth.threads > 0:
                found.append(f"{name}: {growth.threads} threads more")
            if growth.memory > _WORKER_GROWTH:
                found.append(f"{name}: {growth.memory / _MIB:.1f} MiB more")
        return found

    def summary(self) -> dict[str, float]:
        """Return the sums."""
        columns = [sum(column) for column in zip(*self.usage.values(), strict=True)]
        memory, descriptors, threads = columns
        return {
            "workers": len(self.usage),
            "workers' memory, MiB": round(memory / _MIB, 1),
            "workers' descriptors": descriptors,
            "workers' threads": threads,
            "files": len(self.files),
            "control groups": len(self.cgroups),
        }


class ApiCounts(NamedTuple):
    """What the API has, once it has talked to every worker."""

    usage: Usage
    workers: int

    @classmethod
    def of(cls, host: Host) -> Self:
        """Count."""
        return cls(Usage.of(host.api()), len(host.workers()))

    def leaks_since(self, before: ApiCounts) -> list[str]:
        """Return what it has too much, in words."""
        growth = self.usage.growth_since(before.usage)
        found = []
        if growth.descriptors > _PER_WORKER * self.workers:
            found.append(f"the API: {growth.descriptors} descriptors more")
        if growth.threads > _API_THREADS:
            found.append(f"the API: {growth.threads} threads more")
        if growth.memory > _API_GROWTH:
            found.append(f"the API: {growth.memory / _MIB:.1f} MiB more")
        return found

    def summary(self) -> dict[str, float]:
        """Return the numbers."""
        return {
            "API's memory, MiB": round(self.usage.memory / _MIB, 1),
            "API's descriptors": self.usage.descriptors,
            "API's threads": self.usage.threads,
        }


def _below(folders: Iterable[Path]) -> list[str]:
    return [str(path) for folder in folders for path in folder.rglob("*")]
