# SPDX-License-Identifier: Apache-2.0
"""ELF images with a PVH note, and hostile ones."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.vmm_worker.machine.kernels import MIB, Program, elf, note, pvh_kernel, reader
from vmm_worker.machine.elf import parse_elf
from vmm_worker.machine.image import ImageError, Protocol

RAM = 64 * MIB
LOAD = Program(1, MIB, bytes(64))
ENTRY = note(struct.pack("<I", MIB))


def parse(data, ram=RAM):
    return parse_elf(reader(data), len(data), ram)


@pytest.mark.parametrize("bits", [32, 64])
def test_kernel_with_a_note(bits):
    data = pvh_kernel(bits=bits)
    image = parse(data)
    assert image.protocol is Protocol.PVH
    assert image.entry == MIB + 16
    ((address, offset, size),) = image.segments
    assert (address, size) == (MIB, 256)
    assert data[offset : offset + size] == b"\xf4" * 256
    assert (image.start, image.end) == (MIB, MIB + 512)


def test_entry_may_be_64_bits_wide_and_come_after_other_notes():
    notes = note(b"linux\0", 6) + note(b"\1" * 20, 3, b"GNU\0") + note(struct.pack("<Q", MIB))
    assert parse(elf(LOAD, Program(4, 0, notes))).entry == MIB


def test_several_note_segments():
    other = Program(4, 0, note(b"\1" * 20, 3, b"GNU\0"))
    assert parse(elf(other, LOAD, Program(4, 0, ENTRY))).entry == MIB


def test_segments_without_bytes_in_the_file_take_room_only():
    image = parse(elf(LOAD, Program(1, 2 * MIB, b"", 4096), Program(4, 0, ENTRY)))
    assert len(image.segments) == 1
    assert image.end == 2 * MIB + 4096


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (elf(LOAD), "without a PVH note"),
        (elf(LOAD, Program(4, 0, note(b"", 18))), "without a PVH note"),
        (elf(LOAD, Program(4, 0, note(b"\0" * 4, 18, b"Xen2"))), "without a PVH note"),
        (elf(LOAD, Program(4, 0, ENTRY[:-1])), "without a PVH note"),
        (elf(Program(4, 0, ENTRY)), "nothing to load"),
        (elf(Program(1, MIB, b"", 0), Program(4, 0, ENTRY)), "nothing to load"),
        (elf(), "0 program headers"),
        (elf(LOAD, machine=183), "another architecture"),
        (elf(LOAD)[:60], "within its ELF header"),
        (elf(LOAD)[:100], "beyond the end"),
        (elf(LOAD, Program(4, 0, ENTRY))[:-80], "truncated"),
        (elf(Program(1, MIB, bytes(64), 32), Program(4, 0, ENTRY)), "larger than its memory"),
        (elf(Program(1, MIB - 1, bytes(64)), Program(4, 0, ENTRY)), "below 1 MiB"),
        (elf(Program(1, 0x7000, bytes(64)), Program(4, 0, ENTRY)), "below 1 MiB"),
        (elf(Program(1, RAM - 63, bytes(64)), Program(4, 0, ENTRY)), "needs the RAM"),
        (elf(Program(1, (1 << 64) - 32, bytes(64)), Program(4, 0, ENTRY)), "needs the RAM"),
        (elf(LOAD, Program(4, 0, note(struct.pack("<I", MIB + 64)))), "in no segment"),
        (elf(LOAD, Program(4, 0, bytes(70000))), "too large"),
        (b"\x7fELF\x02\x02" + bytes(58), "another architecture"),
        (b"\x7fELF\x03\x01" + bytes(58), "another architecture"),
    ],
)
def test_unfit_images(data, message):
    with pytest.raises(ImageError, match=message):
        parse(data)


def test_odd_program_header_size():
    data = bytearray(pvh_kernel())
    struct.pack_into("<H", data, 54, 55)
    with pytest.raises(ImageError, match="55 bytes long"):
        parse(bytes(data))


def test_file_that_shrinks_meanwhile():
    data = pvh_kernel()
    with pytest.raises(ImageError, match="became shorter"):
        parse_elf(reader(data[:70]), len(data), RAM)


def check(data, ram):
    try:
        image = parse(data, ram)
    except ImageError:
        return
    for address, offset, size in image.segments:
        assert MIB <= address < address + size <= ram
        assert offset + size <= len(data)
        assert image.start <= address < address + size <= image.end <= ram
    assert image.start <= image.entry < image.end


@given(
    st.sampled_from([32, 64]),
    st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=8)), max_size=8),
)
def test_mutated_images_are_refused_or_stay_within_bounds(bits, mutations):
    data = bytearray(pvh_kernel(bits=bits, size=64))
    for position, change in mutations:
        data[position : position + len(change)] = change
    check(bytes(data), RAM)


NUMBER = st.integers(0, (1 << 64) - 1) | st.integers(0, 4096) | st.just(MIB)


@given(st.lists(st.tuples(st.sampled_from([1, 4]), *[NUMBER] * 4), min_size=1, max_size=4))
@example([(1, 0, MIB, 64, 64), (4, (1 << 64) - 1, 0, 64, 64)])
@example([(1, (1 << 64) - 1, MIB, 1, 64), (4, 0, 0, 64, 64)])
def test_any_program_headers(headers):
    table = b"".join(
        struct.pack("<2I6Q", kind, 5, offset, address, address, size, memory, 4)
        for kind, offset, address, size, memory in headers
    )
    head = elf()[:56] + struct.pack("<H", len(headers)) + bytes(6)
    check(head + table + ENTRY * 4, RAM)


@given(st.binary(max_size=512))
def test_any_bytes(data):
    check(b"\x7fELF" + data, RAM)
