# SPDX-License-Identifier: Apache-2.0
"""Where the initramfs goes: high, aligned, and never onto the kernel."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm_worker.machine.kernels import MIB
from vmm_worker.machine.image import KernelImage, Protocol
from vmm_worker.machine.initramfs import place_initramfs


def kernel(start=16 * MIB, end=56 * MIB, limit=1 << 31):
    return KernelImage(
        protocol=Protocol.LINUX64,
        entry=start,
        segments=(),
        start=start,
        end=end,
        cmdline_limit=2047,
        initramfs_limit=limit,
    )


def test_top_of_ram():
    assert place_initramfs(1, kernel(), 512 * MIB) == (512 * MIB - 4096, 1)
    assert place_initramfs(4096, kernel(), 512 * MIB) == (512 * MIB - 4096, 4096)
    assert place_initramfs(4097, kernel(), 512 * MIB) == (512 * MIB - 8192, 4097)


def test_below_the_limit_of_the_kernel():
    assert place_initramfs(MIB, kernel(limit=(1 << 31) - 1), 3 << 30).address < (1 << 31) - MIB


def test_exact_fit_behind_the_kernel():
    assert place_initramfs(8 * MIB, kernel(), 64 * MIB) == (56 * MIB, 8 * MIB)


def test_below_the_kernel_when_there_is_no_room_behind_it():
    assert place_initramfs(8 * MIB + 1, kernel(), 64 * MIB) == (8 * MIB - 4096, 8 * MIB + 1)
    assert place_initramfs(15 * MIB, kernel(), 56 * MIB) == (MIB, 15 * MIB)


def test_too_large():
    assert place_initramfs(15 * MIB + 1, kernel(), 56 * MIB) is None
    assert place_initramfs(1 << 40, kernel(), 3 << 30) is None
    assert place_initramfs(1, kernel(limit=0), 3 << 30) is None


@given(
    st.integers(1, 1 << 32),
    st.integers(MIB, 128 * MIB),
    st.integers(1, 128 * MIB),
    st.integers(0, 1 << 32),
    st.integers(0, 3 << 18).map(lambda pages: pages * 4096),
)
def test_place_is_within_bounds(size, start, length, limit, ram):
    image = kernel(start, start + length, limit)
    place = place_initramfs(size, image, ram)
    if place is None:
        top = min(limit, ram)
        assert top - size < image.end + 4096 or size > top
        return
    assert place.size == size
    assert place.address % 4096 == 0
    assert place.address >= MIB
    assert place.address + size <= min(limit, ram)
    assert place.address >= image.end or place.address + size <= image.start
