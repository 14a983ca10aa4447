# SPDX-License-Identifier: Apache-2.0
"""The RAM regions and the memory map, for every size."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from vmm_worker.machine import layout
from vmm_worker.machine.memory import MapKind, low_ram_end, memory_map, ram_regions

GIB = 1 << 30
SIZES = st.integers(min_value=257, max_value=1 << 32).map(lambda pages: pages * layout.PAGE)


@given(SIZES)
@example(2 << 20)
@example(3 * GIB)
@example(3 * GIB - 4096)
@example(3 * GIB + 4096)
@example(6 * GIB)
def test_regions_cover_the_size_and_leave_the_gap(size):
    regions = ram_regions(size)
    assert sum(region.size for region in regions) == size
    assert regions[0].start == 0
    assert regions[0].size == low_ram_end(size) <= layout.RAM_GAP_START
    assert all(region.size > 0 for region in regions)
    assert [region.start for region in regions[1:]] in ([], [layout.HIGH_RAM])


@given(SIZES)
@example(2 << 20)
@example(3 * GIB)
@example(3 * GIB + 4096)
def test_map_is_sorted_disjoint_and_backed(size):
    entries = memory_map(size)
    for before, after in pairwise(entries):
        assert before.start + before.size <= after.start
    regions = ram_regions(size)
    for entry in entries:
        if entry.kind is MapKind.RAM:
            assert any(
                region.start <= entry.start
                and entry.start + entry.size <= region.start + region.size
                for region in regions
            )
    usable = sum(entry.size for entry in entries if entry.kind is MapKind.RAM)
    assert usable == size - (layout.LEGACY_END - layout.LEGACY_START)


def test_what_is_ours_is_reserved():
    reserved = [entry for entry in memory_map(6 * GIB) if entry.kind is MapKind.RESERVED]
    for start, end in (
        (layout.LEGACY_START, layout.LEGACY_END),
        (layout.ECAM, layout.ECAM + layout.ECAM_SIZE),
        (layout.PLATFORM_MMIO, layout.PLATFORM_MMIO + layout.PLATFORM_MMIO_SIZE),
    ):
        assert any(e.start <= start and end <= e.start + e.size for e in reserved)
