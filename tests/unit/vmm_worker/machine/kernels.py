# SPDX-License-Identifier: Apache-2.0
"""Synthetic kernel images and readers of them."""

import struct
from typing import NamedTuple

from vmm_worker.machine.image import Reader

MIB = 1 << 20
BZIMAGE_SETUP_SECTORS = 4
BZIMAGE_CODE_SIZE = 64 * 1024
# The fields of the setup header that are used: offset and format.
FIELDS = {
    "setup_sects": (0x1F1, "<B"),
    "syssize": (0x1F4, "<I"),
    "boot_flag": (0x1FE, "<H"),
    "jump": (0x201, "<B"),
    "magic": (0x202, "<4s"),
    "version": (0x206, "<H"),
    "loadflags": (0x211, "<B"),
    "initrd_addr_max": (0x22C, "<I"),
    "kernel_alignment": (0x230, "<I"),
    "relocatable_kernel": (0x234, "<B"),
    "xloadflags": (0x236, "<H"),
    "cmdline_size": (0x238, "<I"),
    "pref_address": (0x258, "<Q"),
    "init_size": (0x260, "<I"),
}


def bzimage(**fields) -> bytes:
    """Make a bzImage whose header is that of a common kernel, with the fields changed."""
    head = bytearray((BZIMAGE_SETUP_SECTORS + 1) * 512)
    values = {
        "setup_sects": BZIMAGE_SETUP_SECTORS,
        "syssize": BZIMAGE_CODE_SIZE // 16,
        "boot_flag": 0xAA55,
        "jump": 0x6A,
        "magic": b"HdrS",
        "version": 0x20F,
        "loadflags": 1,
        "initrd_addr_max": 0x7FFFFFFF,
        "kernel_alignment": 2 * MIB,
        "relocatable_kernel": 1,
        "xloadflags": 0x7F,
        "cmdline_size": 2047,
        "pref_address": 16 * MIB,
        "init_size": 40 * MIB,
    } | fields
    for name, value in values.items():
        offset, form = FIELDS[name]
        struct.pack_into(form, head, offset, value)
    return bytes(head) + b"\xcc" * BZIMAGE_CODE_SIZE


class Program(NamedTuple):
    """One program header with what it covers."""

    kind: int
    address: int
    data: bytes
    memory: int | None = None


def note(value: bytes, kind: int = 18, name: bytes = b"Xen\0") -> bytes:
    """Make one ELF note."""
    head = struct.pack("<3I", len(name), len(value), kind)
    return head + name + bytes(-len(name) % 4) + value + bytes(-len(value) % 4)


def elf(*programs: Program, bits: int = 64, machine: int | None = None) -> bytes:
    """Make an ELF image of the programs, one after the other."""
    wide = bits == 64
    header_size, entry_size = (64, 56) if wide else (52, 32)
    machine = machine if machine is not None else 62 if wide else 3
    body_at = header_size + entry_size * len(programs)
    table, body = b"", b""
    for kind, address, data, memory in programs:
        offset, size = body_at + len(body), len(data) if memory is None else memory
        if wide:
            table += struct.pack("<2I6Q", kind, 5, offset, address, address, len(data), size, 4)
        else:
            table += struct.pack("<8I", kind, offset, address, address, len(data), size, 5, 4)
        body += data
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    rest = struct.pack(
        form, 2, machine, 1, 0, header_size, 0, 0, header_size, entry_size, len(programs), 0, 0, 0
    )
    return ident + rest + table + body


def pvh_kernel(entry: int = MIB + 16, bits: int = 64, size: int = 256) -> bytes:
    """Make the smallest ELF image with a PVH note."""
    return elf(
        Program(1, MIB, b"\xf4" * size, 2 * size),
        Program(4, 0, note(struct.pack("<I", entry))),
        bits=bits,
    )


def reader(data: bytes) -> Reader:
    """Read from bytes as from a file; an offset no file has is the reader's fault."""

    def read(offset: int, size: int) -> bytes:
        assert 0 <= offset <= len(data)
        assert 0 <= size <= 1 << 20
        return data[offset : offset + size]

    return read
