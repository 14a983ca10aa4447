# SPDX-License-Identifier: Apache-2.0
"""What of a guest's RAM the host holds, and how."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["flags", "resident"]

_MAPPING = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<access>\S{4}) ")


def resident(size: int, pid: int | str = "self") -> int:
    """Return how many bytes the process holds of its one writable mapping of this size."""
    return int(_about(size, pid)["Rss"].split()[0]) << 10


def flags(size: int, pid: int | str = "self") -> set[str]:
    """Return the kernel's flags of that mapping, as proc(5) names them."""
    return set(_about(size, pid)["VmFlags"].split())


def _about(size: int, pid: int | str) -> dict[str, str]:
    """Return what the kernel tells of the process's one writable mapping of this size."""
    mappings: list[dict[str, str]] = []
    wanted = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            length = int(mapping["end"], 16) - int(mapping["start"], 16)
            wanted = length == size and mapping["access"].startswith("rw")
            if wanted:
                mappings.append({})
        elif wanted:
            name, _, value = line.partition(":")
            mappings[-1][name] = value.strip()
    (found,) = mappings
    return found
