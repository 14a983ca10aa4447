# SPDX-License-Identifier: Apache-2.0
"""The start info of the PVH boot ABI (Xen, ``public/arch-x86/hvm/start_info.h``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmm_worker.machine import layout
from vmm_worker.machine.initramfs import Initramfs
from vmm_worker.machine.memory import MapEntry

__all__ = ["start_info"]

MAGIC = 0x336E_C578
VERSION = 1
"""The first with a memory map."""
START_INFO = struct.Struct("<4I4Q2I")
MODULE = struct.Struct("<4Q")
MEMORY_MAP_ENTRY = struct.Struct("<QQII")


def start_info(memory_map: Sequence[MapEntry], initramfs: Initramfs | None) -> bytes:
    """Return everything from ``layout.PVH_START_INFO`` on: info, modules and memory map.

    Args:
        memory_map: The machine's memory map.
        initramfs: Becomes the only module.
    """
    if len(memory_map) > layout.PVH_MEMORY_MAP_CAPACITY:
        raise ValueError(f"{len(memory_map)} entries do not fit the PVH memory map")
    info = START_INFO.pack(
        *(MAGIC, VERSION, 0, 1 if initramfs else 0),
        *(layout.PVH_MODULES, layout.CMDLINE, layout.ACPI_START, layout.PVH_MEMORY_MAP),
        *(len(memory_map), 0),
    )
    modules = MODULE.pack(*initramfs, 0, 0) if initramfs else b""
    entries = b"".join(MEMORY_MAP_ENTRY.pack(*entry, 0) for entry in memory_map)
    data = info.ljust(layout.PVH_MODULES - layout.PVH_START_INFO, b"\0") + modules
    return data.ljust(layout.PVH_MEMORY_MAP - layout.PVH_START_INFO, b"\0") + entries
