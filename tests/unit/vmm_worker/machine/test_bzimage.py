# SPDX-License-Identifier: Apache-2.0
"""bzImage headers: good ones, each way to be bad, and arbitrary ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm_worker.machine.kernels import (
    BZIMAGE_CODE_SIZE,
    FIELDS,
    MIB,
    bzimage,
    reader,
)
from vmm_worker.machine.bzimage import parse_bzimage
from vmm_worker.machine.image import ImageError, Protocol

RAM = 512 * MIB


def parse(data, ram=RAM):
    return parse_bzimage(reader(data), len(data), ram)


def test_kernel_is_loaded_where_it_prefers():
    image = parse(bzimage())
    assert image.protocol is Protocol.LINUX64
    assert image.segments == ((16 * MIB, 2560, BZIMAGE_CODE_SIZE),)
    assert image.entry == 16 * MIB + 0x200
    assert (image.start, image.end) == (16 * MIB, 56 * MIB)
    assert image.initramfs_limit == 1 << 31
    assert image.cmdline_limit == 2047
    assert image.setup_header == bzimage()[0x1F1:0x26C]


def test_no_setup_sectors_means_four():
    assert parse(bzimage(setup_sects=0)).segments[0].offset == 2560


@pytest.mark.parametrize(
    ("fields", "load"),
    [
        ({"pref_address": 0}, 2 * MIB),
        ({"pref_address": 0, "relocatable_kernel": 0}, MIB),
        ({"pref_address": 17 * MIB}, 18 * MIB),
        ({"pref_address": 17 * MIB, "relocatable_kernel": 0}, 17 * MIB),
        ({"pref_address": 16 * MIB, "kernel_alignment": 64 * MIB}, 64 * MIB),
        ({"pref_address": 4096}, 2 * MIB),
    ],
)
def test_alignment_and_preferred_address(fields, load):
    image = parse(bzimage(**fields))
    assert image.start == image.segments[0].address == image.entry - 0x200 == load


def test_what_it_loads_counts_when_init_size_is_smaller():
    image = parse(bzimage(init_size=0))
    assert image.end == 16 * MIB + BZIMAGE_CODE_SIZE


def test_init_size_has_to_fit():
    assert parse(bzimage(), 56 * MIB).end == 56 * MIB
    with pytest.raises(ImageError, match="needs the RAM from 0x1000000 to 0x3800000"):
        parse(bzimage(), 56 * MIB - 1)


def test_long_setup_header_does_not_reach_the_rest_of_the_zero_page():
    assert len(parse(bzimage(jump=0xFF)).setup_header) == 0x290 - 0x1F1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boot_flag": 0}, "boot flag"),
        ({"version": 0x20B}, r"boot protocol 2\.11"),
        ({"loadflags": 0}, "zImage"),
        ({"xloadflags": 0}, "32-bit kernel"),
        ({"jump": 0x10}, "setup header ends"),
        ({"syssize": 0}, "a kernel of 0 bytes"),
        ({"syssize": 0xFFFFFFFF}, "truncated"),
        ({"kernel_alignment": 0}, "kernel_alignment"),
        ({"kernel_alignment": 3 * MIB}, "kernel_alignment"),
        ({"pref_address": 1 << 63}, "needs the RAM"),
        ({"magic": b"HdrX"}, "setup header"),
    ],
)
def test_unfit_kernels(fields, message):
    with pytest.raises(ImageError, match=message):
        parse(bzimage(**fields))


@pytest.mark.parametrize("size", [0, 0x1F0, 0x205, 2560, 4095])
def test_short_files(size):
    with pytest.raises(ImageError):
        parse(bzimage()[:size])


def limit(form):
    return st.integers(0, {"<B": 0xFF, "<H": 0xFFFF, "<I": (1 << 32) - 1}.get(form, (1 << 64) - 1))


MUTATIONS = st.fixed_dictionaries(
    {},
    optional={name: limit(form) for name, (_, form) in FIELDS.items() if name != "magic"},
)


@given(MUTATIONS, st.integers(1, 3 << 18).map(lambda pages: pages * 4096))
def test_any_header_is_refused_or_stays_within_bounds(fields, ram):
    data = bzimage(**fields)
    try:
        image = parse(data, ram)
    except ImageError:
        return
    (segment,) = image.segments
    assert MIB <= image.start == segment.address
    assert segment.address + segment.size <= image.end <= ram
    assert segment.offset + segment.size <= len(data)
    assert image.start <= image.entry < segment.address + segment.size
    assert image.cmdline_limit < 1 << 16
    assert len(image.setup_header) <= 0x290 - 0x1F1


@given(st.binary(max_size=8192))
def test_any_bytes(data):
    with pytest.raises(ImageError):
        parse(data)
