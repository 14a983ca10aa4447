# SPDX-License-Identifier: Apache-2.0
"""What of a guest's RAM the host holds."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["resident"]

_MAPPING = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<access>\S{4}) ")


def resident(size: int, pid: int | str = "self") -> int:
    """Return how many bytes the process holds of its one writable mapping of this size."""
    sizes: list[int] = []
    wanted = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            length = int(mapping["end"], 16) - int(mapping["start"], 16)
            wanted = length == size and mapping["access"].startswith("rw")
        elif wanted and line.startswith("Rss:"):
            sizes.append(int(line.split()[1]) << 10)
    (found,) = sizes
    return found
