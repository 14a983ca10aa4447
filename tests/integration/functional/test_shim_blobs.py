# SPDX-License-Identifier: Apache-2.0
"""Saved state is input: whatever was done to it, it is refused whole or it is loaded."""

import errno
import random
import struct
import zlib

import pytest

from kvm_shim import ShimError
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

HEADER = struct.Struct("<II32sQII")
# Offsets in the payload of a vCPU's state: the counts at the end of its fixed part.
XSAVE_SIZE = 2080
NESTED_SIZE = 2084
MSR_COUNT = 2088
# The first MSR's index follows the fixed part, the XSAVE area and a nested guest's state.
FIXED = 2096
SREGS_CR0 = 144 + 8 * 24 + 2 * 16
ROUTE_COUNT = 1608
# MSRs that go on by themselves: the TSC, and Hyper-V's run time and reference time.
CLOCKS = (0x10, 0x40000010, 0x40000020)


@pytest.fixture
def guest():
    with GuestVm("count") as guest:
        yield guest


def forge(blob, **changes):
    """Change payload bytes and make the header fit: what a forger would do."""
    magic, version, kind, _, _, reserved = HEADER.unpack_from(blob)
    payload = bytearray(blob[HEADER.size :])
    for offset, data in changes.get("patch", {}).items():
        payload[offset : offset + len(data)] = data
    payload = payload[: changes.get("cut")] + changes.get("append", b"")
    length = changes.get("length", len(payload))
    header = HEADER.pack(
        changes.get("magic", magic),
        changes.get("version", version),
        kind,
        length,
        changes.get("checksum", zlib.crc32(payload)),
        changes.get("reserved", reserved),
    )
    return header + bytes(payload)


def u32(value):
    return struct.pack("<I", value)


def refused(load, blob):
    with pytest.raises(ShimError) as caught:
        load(blob)
    assert caught.value.errno == errno.EINVAL
    assert caught.value.context


def without_time(blob):
    """Return the state without what goes on by itself."""
    count = struct.unpack_from("<I", blob, HEADER.size + MSR_COUNT)[0]
    size = struct.unpack_from("<I", blob, HEADER.size + XSAVE_SIZE)[0]
    nested = struct.unpack_from("<I", blob, HEADER.size + NESTED_SIZE)[0]
    start = HEADER.size + FIXED + size + nested
    msrs = dict(struct.unpack_from("<IxxxxQ", blob, start + 16 * i) for i in range(count))
    for index in CLOCKS:
        msrs.pop(index, None)
    return blob[HEADER.size : start], msrs


def test_the_checksum_is_crc32(guest):
    blob = guest.vm.save_vcpu(0)
    assert forge(blob) == blob


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 0},
        {"version": 0},
        {"version": 3},
        {"checksum": 0},
        {"reserved": 1},
        {"length": 0},
        {"length": (1 << 64) - 1},
        {"cut": 8},
        {"cut": 0},
        {"append": bytes(16)},
        {"patch": {XSAVE_SIZE: u32(0xFFFFFFFF)}},
        {"patch": {XSAVE_SIZE: u32(0)}},
        {"patch": {NESTED_SIZE: u32(0xFFFFFFFF)}},
        {"patch": {NESTED_SIZE: u32(7)}},
        {"patch": {MSR_COUNT: u32(0xFFFFFFFF)}},
        {"patch": {MSR_COUNT: u32(0)}},
        {"patch": {MSR_COUNT: u32(1 << 28)}},
    ],
    ids=repr,
)
def test_a_forged_frame_is_refused(guest, changes):
    before = guest.vm.save_vcpu(0)
    refused(lambda blob: guest.vm.load_vcpu(0, blob), forge(before, **changes))
    assert without_time(guest.vm.save_vcpu(0)) == without_time(before)


def test_what_kvm_refuses_is_rolled_back(guest):
    """Paging without protection is no CR0; an MSR of that number is nobody's."""
    before = guest.vm.save_vcpu(0)
    size = struct.unpack_from("<I", before, HEADER.size + XSAVE_SIZE)[0]
    nested = struct.unpack_from("<I", before, HEADER.size + NESTED_SIZE)[0]
    for patch in (
        {SREGS_CR0: struct.pack("<Q", 0x80000000)},
        {0: struct.pack("<Q", 0x1234), FIXED + size + nested: u32(0xDEADBEEF)},
    ):
        refused(lambda blob: guest.vm.load_vcpu(0, blob), forge(before, patch=patch))
        assert without_time(guest.vm.save_vcpu(0)) == without_time(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": {0: u32(1)}},
        {"patch": {520: u32(7)}},
        {"patch": {ROUTE_COUNT: u32(1)}},
        {"patch": {ROUTE_COUNT: u32(0xFFFFFFFF)}},
        {"cut": 100},
        {"append": bytes(16)},
    ],
    ids=repr,
)
def test_a_forged_vm_state_is_refused(guest, changes):
    refused(guest.vm.load, forge(guest.vm.save(), **changes))


@pytest.mark.parametrize("gsi", [0, 23, 4096, 0xFFFFFFFF])
def test_a_route_of_a_gsi_that_cannot_be_is_refused(guest, gsi):
    route = struct.pack("<IIQ", gsi, 0x50, 0xFEE00000)
    blob = forge(guest.vm.save(), patch={ROUTE_COUNT: u32(1)}, append=route)
    refused(guest.vm.load, blob)


def test_routes_out_of_order_are_refused(guest):
    routes = b"".join(struct.pack("<IIQ", gsi, 0x50, 0xFEE00000) for gsi in (25, 25))
    refused(guest.vm.load, forge(guest.vm.save(), patch={ROUTE_COUNT: u32(2)}, append=routes))


def test_random_damage_never_crashes(guest):
    """With the checksum made right, KVM is what refuses; the guest may then be anything."""
    generator = random.Random(1)
    loads = [
        (lambda blob: guest.vm.load_vcpu(0, blob), guest.vm.save_vcpu(0)),
        (guest.vm.load, guest.vm.save()),
        *((device.load, device.save()) for device in guest.devices.values()),
    ]
    for load, good in loads:
        for _ in range(60):
            length = len(good) - HEADER.size
            patch = {
                generator.randrange(length): generator.randbytes(1)
                for _ in range(generator.randrange(1, 5))
            }
            blob = forge(good, patch=patch, cut=length)
            try:
                load(blob)
            except ShimError as ex:
                assert ex.context  # noqa: PT017 - either outcome is right
        load(good)
    guest.run()
    guest.vm.pause()
