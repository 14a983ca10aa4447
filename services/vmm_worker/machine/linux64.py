# SPDX-License-Identifier: Apache-2.0
"""The zero page, ``struct boot_params``, of the 64-bit Linux boot protocol."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmm_worker.machine import layout
from vmm_worker.machine.bzimage import SETUP_START
from vmm_worker.machine.initramfs import Initramfs
from vmm_worker.machine.memory import MapEntry

__all__ = ["zero_page"]

LOADER_UNDEFINED = 0xFF
E820_CAPACITY = 128
E820_ENTRY = struct.Struct("<QQI")
VIDEO_MODE_NORMAL = 0xFFFF


def zero_page(
    setup_header: bytes, memory_map: Sequence[MapEntry], initramfs: Initramfs | None
) -> bytes:
    """Return the page; everything of it that is not named here has to be zero.

    Args:
        setup_header: As it stands in the kernel's file, from 0x1f1 on.
        memory_map: What becomes the e820 table.
        initramfs: Where it is, if there is one.
    """
    if len(memory_map) > E820_CAPACITY:
        raise ValueError(f"{len(memory_map)} entries do not fit the e820 table")
    page = bytearray(layout.PAGE)
    page[SETUP_START : SETUP_START + len(setup_header)] = setup_header
    struct.pack_into("<Q", page, 0x070, layout.ACPI_START)  # acpi_rsdp_addr
    page[0x1E8] = len(memory_map)
    struct.pack_into("<H", page, 0x1FA, VIDEO_MODE_NORMAL)
    page[0x210] = LOADER_UNDEFINED
    image, size = initramfs or (0, 0)
    struct.pack_into("<II", page, 0x218, image, size)
    struct.pack_into("<I", page, 0x228, layout.CMDLINE)
    struct.pack_into("<Q", page, 0x250, 0)  # setup_data
    for number, entry in enumerate(memory_map):
        E820_ENTRY.pack_into(page, 0x2D0 + number * E820_ENTRY.size, *entry)
    return bytes(page)
