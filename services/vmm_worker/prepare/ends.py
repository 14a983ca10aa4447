# SPDX-License-Identifier: Apache-2.0
"""What an end of the worker means that it could not say itself, and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["explain"]

_MEANINGS: Final = {
    "oom-kill": "out of memory: the guest's RAM and its monitor need more than the limit; raise "
    "host.memory_max in {path}, or lower memory.size",
    "watchdog": "the worker hung and was ended by the watchdog; a host that is short of CPU or "
    "of I/O can be the reason",
    "timeout": "the worker took longer to start or to stop than its unit allows",
    "resources": "the host could not start the worker: see above what it lacks",
}
"""By the results of services in systemd.exec(5)."""


def explain(result: str, name: str, path: Path) -> str | None:
    """Return a line for the journal.

    Args:
        result: The service's, as systemd has it.
        name: The VM's.
        path: The file that describes it.
    """
    meaning = _MEANINGS.get(result)
    return None if meaning is None else f"{name}: {meaning.format(path=path)}"
