# SPDX-License-Identifier: Apache-2.0
"""The Linux bzImage: its setup header, and where the kernel in it goes.

Offsets are those of ``Documentation/arch/x86/boot.rst``, "The Real-Mode Kernel Header".
"""

from __future__ import annotations

import struct

from vmm_worker.machine import layout
from vmm_worker.machine.image import ImageError, KernelImage, Protocol, Reader, Segment

__all__ = ["HEADER_SIZE", "is_bzimage", "parse_bzimage"]

HEADER_SIZE = 4096
SECTOR = 512
SETUP_START = 0x1F1
MAGIC = b"HdrS"
MAGIC_AT = 0x202
BOOT_FLAG = 0xAA55
DEFAULT_SETUP_SECTORS = 4
MIN_VERSION = 0x020C
"""The first version with ``xloadflags`` and so with a 64-bit entry one can rely on."""
LOADED_HIGH = 1 << 0
XLF_KERNEL_64 = 1 << 0
ENTRY_64 = 0x200
SETUP_MINIMUM = 0x264
"""End of ``init_size``, the last field used here."""
SETUP_LIMIT = 0x290
"""The zero page has room for the header up to here; what follows it has another use."""


def is_bzimage(head: bytes) -> bool:
    """Tell whether the file that begins with ``head`` has a Linux setup header."""
    return head[MAGIC_AT : MAGIC_AT + 4] == MAGIC


def parse_bzimage(read: Reader, file_size: int, ram_end: int) -> KernelImage:
    """Check the header and choose the address of the kernel.

    Args:
        read: Reads from the file.
        file_size: Its size.
        ram_end: The end of the RAM below 4 GiB.

    Raises:
        ImageError: If this is not a kernel that the 64-bit protocol can start, or if the
            RAM is too small for it.
    """
    head = read(0, HEADER_SIZE)
    if len(head) < HEADER_SIZE or not is_bzimage(head):
        raise ImageError("the file ends within the Linux setup header")
    _check_abilities(head)
    setup_end = MAGIC_AT + head[0x201]
    if setup_end < SETUP_MINIMUM:
        raise ImageError(f"its Linux setup header ends at {setup_end:#x} already")
    offset, size = _payload(head, file_size)
    load, end = _place(head, size, ram_end)
    return KernelImage(
        protocol=Protocol.LINUX64,
        entry=load + ENTRY_64,
        segments=(Segment(load, offset, size),),
        start=load,
        end=end,
        cmdline_limit=min(_u32(head, 0x238), layout.CMDLINE_CAPACITY - 1),
        initramfs_limit=_u32(head, 0x22C) + 1,
        setup_header=head[SETUP_START : min(setup_end, SETUP_LIMIT)],
    )


def _u32(head: bytes, offset: int) -> int:
    return int.from_bytes(head[offset : offset + 4], "little")


def _check_abilities(head: bytes) -> None:
    flag, version, flags = struct.unpack_from("<H6xH9xB", head, 0x1FE)
    if flag != BOOT_FLAG:
        raise ImageError(f"the boot flag of its Linux setup header is {flag:#06x}, not 0xaa55")
    if version < MIN_VERSION:
        raise ImageError(
            f"it speaks boot protocol {version >> 8}.{version & 0xFF:02}, and 2.12 is the "
            "oldest that has the 64-bit entry"
        )
    if not flags & LOADED_HIGH:
        raise ImageError("it is a zImage, which loads below 640 KiB; a bzImage is needed")
    if not _u32(head, 0x236) & XLF_KERNEL_64:
        raise ImageError("it is a 32-bit kernel (XLF_KERNEL_64 is not set)")


def _payload(head: bytes, file_size: int) -> tuple[int, int]:
    """Return where the protected-mode kernel is in the file."""
    offset = ((head[SETUP_START] or DEFAULT_SETUP_SECTORS) + 1) * SECTOR
    size = _u32(head, 0x1F4) * 16
    if size <= ENTRY_64:
        raise ImageError(f"its header announces a kernel of {size} bytes")
    if offset + size > file_size:
        raise ImageError(
            f"it is truncated: the header announces {offset + size} bytes, and the file has "
            f"{file_size}"
        )
    return offset, size


def _place(head: bytes, size: int, ram_end: int) -> tuple[int, int]:
    """Return the load address and the end of what the kernel needs from there.

    A kernel that was loaded below ``pref_address`` moves itself there, and ``init_size``
    counts from where it ends up; so loading it there at once is both the fastest and the
    only way to know what it will touch.
    """
    preferred = int.from_bytes(head[0x258:0x260], "little")
    alignment = 1
    if head[0x234]:  # relocatable_kernel
        alignment = _u32(head, 0x230)
        if alignment < layout.PAGE or alignment & (alignment - 1):
            raise ImageError(f"its kernel_alignment {alignment:#x} is no power of two of pages")
    load = max(preferred, layout.KERNEL)
    load += -load % alignment
    end = load + max(_u32(head, 0x260), size)
    if end > ram_end:
        raise ImageError(
            f"it needs the RAM from {load:#x} to {end:#x}, and the VM's RAM below 4 GiB ends "
            f"at {ram_end:#x}"
        )
    return load, end
