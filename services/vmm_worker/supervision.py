# SPDX-License-Identifier: Apache-2.0
"""What the init system is told of the worker: ready, its state in one line, alive, stopping.

All but the first is told by the control loop, so that a loop that hangs is missed. What a manager
that is short of time did not take, it is told again with the next sign of life.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from service_manager.notify import notify, watchdog_seconds

if TYPE_CHECKING:
    from vmm_worker.vmm import Standing

__all__ = ["Supervision"]

_BEATS: Final = 3
"""Signs of life in the time in which there has to be one."""
_MARGIN: Final = 15.0
"""Seconds to end in, beside those that the guest has."""
_START: Final = 90.0
"""Seconds for the next sign of life of a worker whose first VM takes long to boot."""
_MIB: Final = 1 << 20


class Supervision:
    """Tells the init system, if one started the process.

    Args:
        name: The VM's.
        patience: Seconds that a guest has to power off when the worker is to end.
    """

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        period = watchdog_seconds()
        self._pause = (period or 0.0) / _BEATS
        self.due: float | None = None if period is None else 0.0
        """When the next sign of life is due, in ``CLOCK_MONOTONIC``."""
        self._standing: Standing | None = None
        self._stopping = False
        self._is_ready = False
        self._is_known_ready = False

    def ready(self) -> None:
        """Say that the worker serves, and its first VM runs if it has one; from any thread."""
        self._is_ready = True
        self._is_known_ready = notify(READY=1)

    def tell(self, standing: Standing, *, stopping: bool) -> None:
        """Tell what changed since the last time, and that the worker is alive."""
        fields: dict[str, object] = {}
        is_due = self.due is not None and time.monotonic() >= self.due
        if is_due or standing is not self._standing or stopping is not self._stopping:
            fields["STATUS"] = self._describe(standing, stopping=stopping)
        if stopping and not self._stopping:
            fields |= {"STOPPING": 1, "EXTEND_TIMEOUT_USEC": _usec(self._patience + _MARGIN)}
        if is_due:
            self.due = time.monotonic() + self._pause
            fields["WATCHDOG"] = 1
            if not self._is_ready:
                fields.setdefault("EXTEND_TIMEOUT_USEC", _usec(_START))
            elif not self._is_known_ready and not stopping:
                fields["READY"] = 1
        self._standing, self._stopping = standing, stopping
        if fields and notify(**fields) and "READY" in fields:
            self._is_known_ready = True

    def _describe(self, standing: Standing, *, stopping: bool) -> str:
        nothing = "starting" if standing.expected else "no VM"
        parts = [f"{self._name}: {standing.state or nothing}"]
        if standing.config is not None:
            stop = standing.last_stop
            if standing.vm is None and stop is not None:
                parts[0] += f" ({stop.reason})"
            count = standing.config.cpus.boot_vcpus
            parts.append(f"{count} vCPU{'s' * (count != 1)}")
            parts.append(f"{standing.config.memory.size // _MIB} MiB")
        if standing.boots:
            parts.append(f"boot {standing.boots}")
        if stopping:
            parts.append("stopping")
        return ", ".join(parts)


def _usec(seconds: float) -> int:
    return int(seconds * 1e6)
