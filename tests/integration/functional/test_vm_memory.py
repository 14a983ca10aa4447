# SPDX-License-Identifier: Apache-2.0
"""Guest RAM as the control plane sees it."""

import errno

import pytest

from kvm_shim import MemoryFlag, ShimError, Vm
from tests.support.ram import flags as mapping_flags
from tests.support.ram import resident

pytestmark = pytest.mark.kvm

MIB = 1 << 20


@pytest.fixture
def vm():
    with Vm() as vm:
        yield vm


def test_adjacent_slots_are_one_range(vm):
    vm.add_memory(0, MIB)
    vm.add_memory(MIB, MIB)
    data = bytes(range(256)) * 32
    vm.write_memory(MIB - 4096, data)
    assert vm.read_memory(MIB - 4096, len(data)) == data
    assert vm.read_memory(MIB, 4096) == data[4096:]


@pytest.mark.parametrize(
    ("gpa", "size"),
    [
        (MIB - 4, 8),
        (MIB, 1),
        (3 * MIB - 1, 2),
        (0xFFFFFFFFFFFFFFFC, 8),
        (0, 4 * MIB),
    ],
)
def test_what_is_not_all_ram_is_refused_whole(vm, gpa, size):
    vm.add_memory(0, MIB)
    vm.add_memory(2 * MIB, MIB)
    with pytest.raises(ShimError) as caught:
        vm.write_memory(gpa, b"\xff" * size)
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(ShimError) as caught:
        vm.read_memory(gpa, size)
    assert caught.value.errno == errno.EFAULT
    assert vm.read_memory(0, MIB) == bytes(MIB)
    assert vm.read_memory(2 * MIB, MIB) == bytes(MIB)


@pytest.mark.parametrize(("gpa", "size"), [(0, 4096), (MIB - 4096, 8192), (0, 2 * MIB)])
def test_ram_cannot_overlap(vm, gpa, size):
    vm.add_memory(0, MIB)
    with pytest.raises(ShimError) as caught:
        vm.add_memory(gpa, size)
    assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(("gpa", "size"), [(0, 0), (0, 100), (100, 4096), (1 << 63, 1 << 63)])
def test_ram_is_whole_pages(vm, gpa, size):
    with pytest.raises(ShimError) as caught:
        vm.add_memory(gpa, size)
    assert caught.value.errno == errno.EINVAL
    assert caught.value.context


def test_ram_above_four_gigabytes(vm):
    vm.add_memory(0, MIB)
    vm.add_memory(4 << 30, MIB)
    vm.write_memory((4 << 30) + 10, b"high")
    assert vm.read_memory((4 << 30) + 10, 4) == b"high"


def test_more_ram_than_there_is_is_a_typed_error(vm):
    with pytest.raises(ShimError) as caught:
        vm.add_memory(0, 1 << 50)
    assert caught.value.errno in (errno.ENOMEM, errno.EINVAL, errno.EFBIG)


@pytest.mark.parametrize("flags", [MemoryFlag(0), MemoryFlag.SHARED])
def test_ram_is_provided_part_by_part_and_keeps_its_contents(vm, flags):
    size = 5 * MIB + 0x7000  # a size that no other mapping has
    vm.add_memory(0, size, flags)
    vm.add_memory(size, MIB, flags)
    vm.write_memory(MIB, b"kept")
    vm.prefault(0, 2 * MIB)
    assert resident(size) in range(2 * MIB, 5 * MIB)
    vm.prefault(2 * MIB, size - 2 * MIB + MIB)
    assert resident(size) == size
    assert vm.read_memory(MIB, 8) == b"kept\0\0\0\0"


@pytest.mark.parametrize(
    ("gpa", "size", "number"),
    [
        (0, 4095, errno.EINVAL),
        (1, 4096, errno.EINVAL),
        (MIB, 4096, errno.EFAULT),
        (0, 2 * MIB, errno.EFAULT),
    ],
)
def test_what_is_not_ram_is_not_provided(vm, gpa, size, number):
    vm.add_memory(0, MIB)
    with pytest.raises(ShimError) as caught:
        vm.prefault(gpa, size)
    assert caught.value.errno == number
    assert caught.value.context


def test_a_file_is_read_into_ram(vm, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"0123456789" * 1000)
    vm.add_memory(0, MIB)
    vm.add_memory(MIB, MIB)
    with path.open("rb") as file:
        vm.load_memory(MIB - 100, file.fileno(), 5, 9000)
        assert vm.read_memory(MIB - 100, 9000) == path.read_bytes()[5:9005]
        with pytest.raises(ShimError) as caught:
            vm.load_memory(0, file.fileno(), 5000, 5001)
        assert caught.value.errno == errno.EIO
        with pytest.raises(ShimError) as caught:
            vm.load_memory(2 * MIB - 100, file.fileno(), 0, 101)
        assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("flags", [MemoryFlag(0), MemoryFlag.SHARED])
def test_memory_is_reserved_where_that_is_asked_for(flags):
    size = 5 * MIB + 0x9000  # a size that no other mapping has
    with Vm() as vm:
        vm.add_memory(0, size, flags)
        assert "nr" in mapping_flags(size)
    with Vm() as vm:
        vm.add_memory(0, size, flags | MemoryFlag.RESERVE)
        assert "nr" not in mapping_flags(size)


def test_more_than_the_host_can_set_aside_is_refused(vm):
    with pytest.raises(ShimError) as caught:
        vm.add_memory(0, 1 << 45, MemoryFlag.RESERVE)
    assert caught.value.errno == errno.ENOMEM


def test_huge_pages_of_a_size_that_no_host_has(vm):
    with pytest.raises(ShimError) as caught:
        vm.add_memory(0, 32 * MIB, MemoryFlag.huge(16 * MIB))
    assert caught.value.errno == errno.ENODEV
    assert MemoryFlag.huge(1 << 30) == MemoryFlag.HUGEPAGES | 30 << 26
