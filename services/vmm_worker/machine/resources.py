# SPDX-License-Identifier: Apache-2.0
"""Resource descriptors (ACPI 6.3, 6.4), the contents of a device's ``_CRS``."""

from __future__ import annotations

import struct

from vmm_worker.machine import aml

__all__ = [
    "bus_numbers",
    "interrupt",
    "io",
    "io_window",
    "irq",
    "memory",
    "memory_window",
    "resource_template",
]

# Address space descriptors: general flags 0x0c say that minimum and maximum are both
# fixed, that the range is decoded positively, and that the device produces it.
BOTH_ENDS_FIXED = 0x0C
MEMORY_RANGE = 0
IO_RANGE = 1
BUS_RANGE = 2
MEMORY_READ_WRITE = 0x01
IO_ENTIRE_RANGE = 0x03
END_TAG = b"\x79\x00"
"""A checksum of zero means that none is given (6.4.2.9)."""


def resource_template(*descriptors: bytes) -> bytes:
    """Encode ``ResourceTemplate() {descriptors}``."""
    return aml.buffer(b"".join(descriptors) + END_TAG)


def io(start: int, length: int) -> bytes:
    """Encode ``IO(Decode16, start, start, 1, length)``."""
    return struct.pack("<BBHHBB", 0x47, 1, start, start, 1, length)


def irq(number: int) -> bytes:
    """Encode ``IRQNoFlags() {number}``: edge-triggered, active-high, exclusive."""
    return struct.pack("<BH", 0x22, 1 << number)


def interrupt(gsi: int) -> bytes:
    """Encode ``Interrupt(ResourceConsumer, Edge, ActiveHigh, Exclusive) {gsi}``."""
    return struct.pack("<BHBBI", 0x89, 6, 0x03, 1, gsi)


def memory(start: int, size: int) -> bytes:
    """Encode ``Memory32Fixed(ReadWrite, start, size)``."""
    return struct.pack("<BHBII", 0x86, 9, MEMORY_READ_WRITE, start, size)


def bus_numbers(first: int, last: int) -> bytes:
    """Encode the ``WordBusNumber`` a host bridge produces."""
    return word_space(BUS_RANGE, 0, first, last)


def io_window(first: int, last: int) -> bytes:
    """Encode the ``WordIO`` window a host bridge produces."""
    return word_space(IO_RANGE, IO_ENTIRE_RANGE, first, last)


def word_space(kind: int, specific: int, first: int, last: int) -> bytes:
    """Encode a word address space descriptor (6.4.3.5.3)."""
    return struct.pack(
        "<BHBBBHHHHH",
        *(0x88, 13, kind, BOTH_ENDS_FIXED, specific),
        *(0, first, last, 0, last - first + 1),
    )


def memory_window(first: int, last: int) -> bytes:
    """Encode the ``DWordMemory`` window (non-cacheable) a host bridge produces."""
    return struct.pack(
        "<BHBBBIIIII",
        *(0x87, 23, MEMORY_RANGE, BOTH_ENDS_FIXED, MEMORY_READ_WRITE),
        *(0, first, last, 0, last - first + 1),
    )
