# SPDX-License-Identifier: Apache-2.0
"""The PVH start info, its modules and its memory map."""

import struct

import pytest

from vmm_worker.machine import layout
from vmm_worker.machine.initramfs import Initramfs
from vmm_worker.machine.memory import MapEntry, MapKind, memory_map
from vmm_worker.machine.pvh import start_info


@pytest.mark.parametrize("initramfs", [None, Initramfs(0x1F000000, 4711)])
def test_start_info(initramfs):
    entries = memory_map(6 << 30)
    data = start_info(entries, initramfs)
    assert len(data) <= layout.ZERO_PAGE - layout.PVH_START_INFO
    assert struct.unpack_from("<4I4Q2I", data) == (
        *(0x336EC578, 1, 0, 0 if initramfs is None else 1),
        *(layout.PVH_MODULES, layout.CMDLINE, layout.ACPI_START, layout.PVH_MEMORY_MAP),
        *(len(entries), 0),
    )
    module = struct.unpack_from("<4Q", data, layout.PVH_MODULES - layout.PVH_START_INFO)
    assert module == (*(initramfs or (0, 0)), 0, 0)
    table = data[layout.PVH_MEMORY_MAP - layout.PVH_START_INFO :]
    read = [MapEntry(s, n, MapKind(k)) for s, n, k, _ in struct.iter_unpack("<QQII", table)]
    assert tuple(read) == entries


def test_too_many_entries():
    with pytest.raises(ValueError, match="memory map"):
        start_info([MapEntry(0, 1, MapKind.RAM)] * 161, None)
