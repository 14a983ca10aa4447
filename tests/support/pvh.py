# SPDX-License-Identifier: Apache-2.0
"""A PVH loader for tests of the bare shim, which has none."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kvm_shim

__all__ = ["Segment", "boot_pvh", "read_pvh"]

_START_INFO = 0x6000
_CMDLINE = 0x20000
_BOOT_STACK = 0x8FF0
_GDT = 0x500
_PAGE_TABLES = 0x9000
_START_MAGIC = 0x336EC578
_NOTE_PHYS32_ENTRY = 18
_PT_LOAD = 1
_PT_NOTE = 4


class Segment(NamedTuple):
    """A piece of an ELF image."""

    address: int
    data: bytes


def read_pvh(elf: bytes) -> tuple[int, list[Segment]]:
    """Return the entry point of the image's PVH note, and its loadable segments."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF64 image")
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    entry: int | None = None
    segments: list[Segment] = []
    for index in range(count):
        kind, _, at, _, address, length = struct.unpack_from("<IIQQQQ", elf, offset + index * size)
        data = elf[at : at + length]
        if kind == _PT_LOAD:
            segments.append(Segment(address, data))
        elif kind == _PT_NOTE:
            for note, owner, value in _notes(data):
                if (note, owner) == (_NOTE_PHYS32_ENTRY, b"Xen\0"):
                    entry = int.from_bytes(value, "little")
    if entry is None:
        raise ValueError("no PVH note")
    return entry, segments


def _notes(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    at = 0
    while at < len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        name = at + 12
        value = name + (name_size + 3 & ~3)
        yield kind, data[name : name + name_size], data[value : value + size]
        at = value + (size + 3 & ~3)


def boot_pvh(vm: kvm_shim.Vm, elf: Path, *, cmdline: str = "", vcpu: int = 0) -> None:
    """Load the image into the VM's RAM and set the vCPU to its PVH entry point.

    The VM must have RAM and vCPUs with their CPUID; it is not started.
    """
    entry, segments = read_pvh(elf.read_bytes())
    for segment in segments:
        vm.write_memory(segment.address, segment.data)
    vm.write_memory(_CMDLINE, cmdline.encode() + b"\0")
    start_info = struct.pack("<IIIIQQQQII", _START_MAGIC, 1, 0, 0, 0, _CMDLINE, 0, 0, 0, 0)
    vm.write_memory(_START_INFO, start_info)
    vm.enter_pvh(
        vcpu,
        kvm_shim.Boot(
            entry=entry,
            argument=_START_INFO,
            stack=_BOOT_STACK,
            gdt=_GDT,
            page_tables=_PAGE_TABLES,
        ),
    )
