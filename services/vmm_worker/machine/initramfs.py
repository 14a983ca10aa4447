# SPDX-License-Identifier: Apache-2.0
"""Where the initramfs goes."""

from __future__ import annotations

from typing import NamedTuple

from vmm_worker.machine import layout
from vmm_worker.machine.image import KernelImage

__all__ = ["Initramfs", "place_initramfs"]


class Initramfs(NamedTuple):
    """An initramfs in RAM; of size 0 when there is none."""

    address: int
    size: int


def place_initramfs(size: int, kernel: KernelImage, ram_end: int) -> Initramfs | None:
    """Return the highest page-aligned place that leaves the kernel alone.

    High, because the kernel takes its first pages right behind itself. Below the kernel
    is the second choice: above 1 MiB nothing else is there.

    Args:
        size: Bytes of the initramfs.
        kernel: The kernel it is for, with its own limits.
        ram_end: The end of the RAM below 4 GiB.

    Returns:
        The place, or None if there is no room.
    """
    limit = min(kernel.initramfs_limit, ram_end)
    for bottom, top in ((kernel.end, limit), (layout.KERNEL, min(kernel.start, limit))):
        address = (top - size) & -layout.PAGE
        if address >= bottom:
            return Initramfs(address, size)
    return None
