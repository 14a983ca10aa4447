# SPDX-License-Identifier: Apache-2.0
"""The zero page, field by field."""

import struct

import pytest

from tests.unit.vmm_worker.machine.kernels import bzimage, reader
from vmm_worker.machine import layout
from vmm_worker.machine.bzimage import parse_bzimage
from vmm_worker.machine.initramfs import Initramfs
from vmm_worker.machine.linux64 import zero_page
from vmm_worker.machine.memory import MapEntry, MapKind, memory_map

SIZE = 6 << 30


def header():
    data = bzimage()
    return parse_bzimage(reader(data), len(data), 512 << 20).setup_header


def test_fields():
    page = zero_page(header(), memory_map(SIZE), Initramfs(0x1F000000, 0x1234567))
    assert len(page) == 4096
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x210] == 0xFF
    assert struct.unpack_from("<II", page, 0x218) == (0x1F000000, 0x1234567)
    assert struct.unpack_from("<I", page, 0x228) == (layout.CMDLINE,)
    assert struct.unpack_from("<Q", page, 0x070) == (layout.ACPI_START,)
    assert struct.unpack_from("<Q", page, 0x250) == (0,)
    entries = memory_map(SIZE)
    assert page[0x1E8] == len(entries)
    table = struct.iter_unpack("<QQI", page[0x2D0 : 0x2D0 + 20 * len(entries)])
    assert tuple(MapEntry(s, n, MapKind(k)) for s, n, k in table) == entries


def test_everything_else_is_zero():
    page = bytearray(zero_page(header(), memory_map(SIZE), None))
    assert page[0x1EF] == 0, "the sentinel that tells an old boot loader from a careful one"
    assert struct.unpack_from("<II", page, 0x218) == (0, 0)
    end = 0x2D0 + 20 * len(memory_map(SIZE))
    for start, stop in ((0, 0x70), (0x78, 0x1E8), (0x26C, 0x2D0), (end, 4096)):
        assert not any(page[start:stop])


def test_too_many_entries():
    with pytest.raises(ValueError, match="e820"):
        zero_page(header(), [MapEntry(0, 1, MapKind.RAM)] * 129, None)
