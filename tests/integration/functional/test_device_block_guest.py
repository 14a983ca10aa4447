# SPDX-License-Identifier: Apache-2.0
"""A tiny guest with a disk: doorbells, interrupts, pauses, and moves to another machine."""

import os
import struct

import pytest

from kvm_shim.virtio.block import BlockConfig, create_block
from tests.support.machines import GuestVm, move_at_work, pause_at_work

pytestmark = pytest.mark.kvm

ENDLESS = 1_000_000
IN_FLIGHT = 8


@pytest.fixture(params=["", "event"], ids=["flags", "event_idx"])
def mode(request):
    return request.param


def with_disk(guest, image, engine, **config):
    """Give the guest a disk."""
    fd = os.open(image, os.O_RDWR)
    try:
        parts = BlockConfig(fd=fd, engine=engine, serial=b"a disk of the tests", **config)
        guest.devices["disk"] = create_block(guest.vm, guest.place("_disk0", 3), parts)
    finally:
        os.close(fd)
    return guest


def word(sector, round_, index):
    return (sector * 0x9E3779B97F4A7C15 + round_ * 1000003 + index) % (1 << 64)


def test_a_guest_uses_its_disk(image, mode, engine):
    rounds = 12
    with with_disk(GuestVm("disk", cmdline=f"rounds={rounds} {mode}"), image, engine) as guest:
        guest.run()
        guest.console.expect(b"serial a disk of the tests\ndisk done\n")
        guest.expect_power_off()
        counters = guest.devices["disk"].counters()
    assert counters["write_ops"] == counters["read_ops"] == rounds * IN_FLIGHT
    assert counters["flush_ops"] == 1
    assert counters["errors"] == counters["io_errors"] == 0
    assert 0 < counters["queue0_notifications"] <= 2 * rounds * IN_FLIGHT + 2
    assert 0 < counters["queue0_interrupts"] <= 2 * rounds * IN_FLIGHT + 2
    data = image.read_bytes()
    for sector in range(rounds * IN_FLIGHT):
        expected = [word(sector, sector // IN_FLIGHT, index) for index in range(64)]
        assert list(struct.unpack_from("<64Q", data, 512 * sector)) == expected


def test_no_request_is_lost_over_pauses(image, mode, engine):
    with with_disk(GuestVm("disk", cmdline=f"rounds={ENDLESS} {mode}"), image, engine) as guest:
        pause_at_work(guest, 30)


@pytest.mark.parametrize("devices_first", [False, True])
def test_a_guest_moves_with_its_disk(image, mode, engine, devices_first):
    guest = with_disk(GuestVm("disk", cmdline=f"rounds={ENDLESS} {mode}"), image, engine)
    move_at_work(
        guest, lambda: with_disk(GuestVm(None), image, engine), 6, devices_first=devices_first
    )
