# SPDX-License-Identifier: Apache-2.0
"""No two things of the machine share an address."""

from itertools import pairwise

from vmm_worker.machine import layout
from vmm_worker.machine.reset_vector import reset_vector


def test_boot_structures_do_not_overlap():
    ranges = [
        (layout.GDT, layout.PAGE),
        (layout.PVH_START_INFO, 56),
        (layout.PVH_MODULES, 32),
        (layout.PVH_MEMORY_MAP, layout.PVH_MEMORY_MAP_CAPACITY * 24),
        (layout.ZERO_PAGE, layout.PAGE),
        (layout.BOOT_STACK - 0x800, 0x800),
        (layout.PAGE_TABLES, 6 * layout.PAGE),
        (layout.CMDLINE, layout.CMDLINE_CAPACITY),
        (layout.LEGACY_START, layout.LEGACY_END - layout.LEGACY_START),
    ]
    assert_disjoint(ranges)
    assert layout.LEGACY_START <= layout.ACPI_START < layout.ACPI_END <= layout.RESET_VECTOR


def test_reset_vector_is_where_the_cpu_looks_and_fits():
    assert layout.RESET_VECTOR == (0xF000 << 4) + 0xFFF0
    assert layout.RESET_VECTOR + len(reset_vector()) <= layout.LEGACY_END
    assert reset_vector().hex() == "ba0006b001eef4ebfd"


def test_devices_lie_in_the_gap_and_do_not_overlap():
    ranges = [
        (layout.PCI_WINDOW_START, layout.PCI_WINDOW_END - layout.PCI_WINDOW_START),
        (layout.PLATFORM_MMIO, layout.PLATFORM_MMIO_SIZE),
        (layout.ECAM, layout.ECAM_SIZE),
        (layout.IOAPIC, layout.PAGE),
        (layout.LAPIC, layout.PAGE),
    ]
    assert_disjoint(ranges)
    assert ranges[0][0] >= layout.RAM_GAP_START
    assert sum(ranges[-1]) <= layout.HIGH_RAM


def assert_disjoint(ranges):
    for (start, size), (following, _) in pairwise(ranges):
        assert start + size <= following
