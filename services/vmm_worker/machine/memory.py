# SPDX-License-Identifier: Apache-2.0
"""Guest RAM: where it is, and the map of it that the guest is given."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from vmm_worker.machine import layout

__all__ = [
    "PMEM_ALIGNMENT",
    "MapEntry",
    "MapKind",
    "RamRegion",
    "low_ram_end",
    "memory_map",
    "pmem_start",
    "ram_regions",
]

PMEM_ALIGNMENT = 2 << 20
"""Linux takes persistent memory in units of this size."""


class RamRegion(NamedTuple):
    """One contiguous piece of RAM: one memory slot."""

    start: int
    size: int


class MapKind(IntEnum):
    """Address range types of ACPI 6.3, 15.1; e820 and PVH use the same numbers."""

    RAM = 1
    RESERVED = 2


class MapEntry(NamedTuple):
    """One line of the memory map."""

    start: int
    size: int
    kind: MapKind


def low_ram_end(size: int) -> int:
    """Return the end of the RAM below the 32-bit gap."""
    return min(size, layout.RAM_GAP_START)


def ram_regions(size: int) -> tuple[RamRegion, ...]:
    """Split ``size`` bytes of RAM around the 32-bit gap."""
    low = low_ram_end(size)
    regions = [RamRegion(0, low)]
    if size > low:
        regions.append(RamRegion(layout.HIGH_RAM, size - low))
    return tuple(regions)


def pmem_start(size: int) -> int:
    """Return where persistent memory may begin in a machine with ``size`` bytes of RAM.

    It is no part of the memory map: its device says where it is.
    """
    last = ram_regions(size)[-1]
    end = max(last.start + last.size, layout.HIGH_RAM)
    return -(-end // PMEM_ALIGNMENT) * PMEM_ALIGNMENT


def memory_map(size: int) -> tuple[MapEntry, ...]:
    """Describe the machine's physical addresses, sorted and without overlap.

    ECAM has to be reserved here as well as in the DSDT: Linux looks at the memory map
    when it decides early on whether to trust the MCFG table.
    """
    low = low_ram_end(size)
    entries = [
        MapEntry(0, layout.LEGACY_START, MapKind.RAM),
        MapEntry(layout.LEGACY_START, layout.LEGACY_END - layout.LEGACY_START, MapKind.RESERVED),
        MapEntry(layout.LEGACY_END, low - layout.LEGACY_END, MapKind.RAM),
        MapEntry(layout.PLATFORM_MMIO, layout.PLATFORM_MMIO_SIZE, MapKind.RESERVED),
        MapEntry(layout.ECAM, layout.ECAM_SIZE, MapKind.RESERVED),
    ]
    if size > low:
        entries.append(MapEntry(layout.HIGH_RAM, size - low, MapKind.RAM))
    return tuple(entry for entry in entries if entry.size > 0)
