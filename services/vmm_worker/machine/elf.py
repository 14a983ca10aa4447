# SPDX-License-Identifier: Apache-2.0
"""ELF images with a PVH entry point (the Xen note PHYS32_ENTRY).

The file comes from whoever may configure the VM, so every offset, count and size in it
is checked before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vmm_worker.machine import layout
from vmm_worker.machine.image import ImageError, KernelImage, Protocol, Reader, Segment

__all__ = ["is_elf", "parse_elf"]

MAGIC = b"\x7fELF"
CLASS_32 = 1
CLASS_64 = 2
LITTLE_ENDIAN = 1
EM_386 = 3
EM_X86_64 = 62
PT_LOAD = 1
PT_NOTE = 4
MAX_PROGRAM_HEADERS = 256
MAX_NOTES = 1 << 16
"""Bytes of one note segment; Linux has about 500."""
XEN = b"Xen\x00"
XEN_ELFNOTE_PHYS32_ENTRY = 18


class Layout(NamedTuple):
    """What differs between the two ELF classes (System V ABI, chapters 4 and 5)."""

    header: struct.Struct
    """From ``e_type`` on: type, machine, phoff, phentsize, phnum."""
    program: struct.Struct
    fields: tuple[int, ...]
    """Positions of type, offset, paddr, filesz, memsz and align in a program header."""


ELF32 = Layout(struct.Struct("<HH8xI10xHH"), struct.Struct("<8I"), (0, 1, 3, 4, 5, 7))
ELF64 = Layout(struct.Struct("<HH12xQ14xHH"), struct.Struct("<2I6Q"), (0, 2, 4, 5, 6, 7))


class ProgramHeader(NamedTuple):
    """The fields used of a program header."""

    kind: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


def is_elf(head: bytes) -> bool:
    """Tell whether the file that begins with ``head`` is an ELF file."""
    return head[:4] == MAGIC


def parse_elf(read: Reader, file_size: int, ram_end: int) -> KernelImage:
    """Find the PVH entry point and what to load.

    Args:
        read: Reads from the file.
        file_size: Its size.
        ram_end: The end of the RAM below 4 GiB.

    Raises:
        ImageError: If this is not an x86 kernel with a PVH note that fits the RAM.
    """
    headers = _program_headers(read, file_size)
    loads = [header for header in headers if header.kind == PT_LOAD and header.memory_size]
    if not loads:
        raise ImageError("it is an ELF file with nothing to load")
    for header in loads:
        _check_load(header, file_size, ram_end)
    entry = _pvh_entry(read, [header for header in headers if header.kind == PT_NOTE], file_size)
    if not any(h.address <= entry < h.address + h.memory_size for h in loads):
        raise ImageError(f"its PVH entry point {entry:#x} is in no segment that is loaded")
    return KernelImage(
        protocol=Protocol.PVH,
        entry=entry,
        # The rest of a segment is zero already: the RAM is fresh.
        segments=tuple(Segment(h.address, h.offset, h.file_size) for h in loads if h.file_size),
        start=min(h.address for h in loads),
        end=max(h.address + h.memory_size for h in loads),
        cmdline_limit=layout.CMDLINE_CAPACITY - 1,
        initramfs_limit=layout.RAM_GAP_START,
    )


def _program_headers(read: Reader, file_size: int) -> list[ProgramHeader]:
    head = read(0, 64)
    if len(head) < 64:  # noqa: PLR2004 - sizeof(Elf64_Ehdr)
        raise ImageError("it ends within its ELF header")
    if head[5] != LITTLE_ENDIAN or head[4] not in (CLASS_32, CLASS_64):
        raise ImageError("it is an ELF file for another architecture than x86")
    shape = ELF64 if head[4] == CLASS_64 else ELF32
    _, machine, table, entry_size, count = shape.header.unpack_from(head, 16)
    if machine not in (EM_386, EM_X86_64):
        raise ImageError(f"it is an ELF file for another architecture than x86 ({machine})")
    if entry_size != shape.program.size:
        raise ImageError(f"its ELF program headers are {entry_size} bytes long each")
    if not 0 < count <= MAX_PROGRAM_HEADERS:
        raise ImageError(f"it is an ELF file with {count} program headers")
    size = count * entry_size
    if table + size > file_size:
        raise ImageError("its ELF program headers are beyond the end of the file")
    raw = read(table, size)
    if len(raw) < size:
        raise ImageError("the file became shorter while it was read")
    return [
        ProgramHeader(*(values[position] for position in shape.fields))
        for values in shape.program.iter_unpack(raw)
    ]


def _check_load(header: ProgramHeader, file_size: int, ram_end: int) -> None:
    if header.file_size > header.memory_size or header.offset + header.file_size > file_size:
        raise ImageError(
            f"its ELF segment for {header.address:#x} is truncated or larger than its memory"
        )
    if header.address < layout.KERNEL:
        raise ImageError(
            f"its ELF segment for {header.address:#x} is below 1 MiB, where the boot structures are"
        )
    end = header.address + header.memory_size
    if end > ram_end:
        raise ImageError(
            f"it needs the RAM from {header.address:#x} to {end:#x}, and the VM's RAM below "
            f"4 GiB ends at {ram_end:#x}"
        )


def _pvh_entry(read: Reader, headers: list[ProgramHeader], file_size: int) -> int:
    for header in headers:
        if header.file_size > MAX_NOTES or header.offset + header.file_size > file_size:
            raise ImageError("its ELF notes are truncated or too large")
        notes = read(header.offset, header.file_size)
        for name, kind, value in _notes(notes, 8 if header.alignment == 8 else 4):  # noqa: PLR2004
            if name == XEN and kind == XEN_ELFNOTE_PHYS32_ENTRY and len(value) in (4, 8):
                return int.from_bytes(value, "little")
    raise ImageError("it is an ELF file without a PVH note (a Linux built with CONFIG_PVH has one)")


def _notes(data: bytes, alignment: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Go through notes; stop at the first that is cut off."""
    position = 0
    while position + 12 <= len(data):
        name_size, value_size, kind = struct.unpack_from("<3I", data, position)
        name_at = position + 12
        value_at = name_at + name_size
        value_at += -value_at % alignment
        position = value_at + value_size
        if position > len(data):
            return
        yield data[name_at : name_at + name_size], kind, data[value_at:position]
        position += -position % alignment
