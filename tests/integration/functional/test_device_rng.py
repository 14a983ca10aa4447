# SPDX-License-Identifier: Apache-2.0
"""The entropy device, and with its help what every virtio device does for a guest."""

import os
import time

import pytest

from kvm_shim import EventKind, ShimError
from kvm_shim.virtio.limiter import Bucket, create_limiter
from kvm_shim.virtio.rng import create_rng
from tests.support.machines import GuestVm, move_at_work, pause_at_work
from tests.support.rng import driver_of, with_rng

pytestmark = pytest.mark.kvm

MODES = ["", "indirect", "masked", "indirect masked"]


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_gets_its_bytes_and_interrupts(mode):
    with with_rng(GuestVm("rng", cmdline=f"rounds=100 {mode}")) as guest:
        guest.run()
        guest.console.expect(b"rng done\n")
        guest.expect_event(EventKind.DEVICE_ACTIVATED, "_rng")
        guest.expect_power_off()
        counters = guest.devices["rng"].counters()
        assert counters["queue0_requests"] == counters["queue0_interrupts"] == 100
        assert 0 < counters["queue0_notifications"] <= 101
        assert counters["bytes"] == 1600
        assert counters["errors"] == 0


def test_doorbells_and_interrupts_stay_in_the_kernel():
    with with_rng(GuestVm("rng", cmdline="rounds=1000")) as guest:
        guest.run()
        guest.console.expect(b"rng done\n")
        assert guest.vm.counters(0).exits["mmio"] < 200
        assert guest.devices["rng"].counters()["queue0_notifications"] > 900


@pytest.mark.parametrize("devices_first", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_guest_goes_on_in_another_vm(mode, devices_first):
    guest = with_rng(GuestVm("rng", cmdline=f"rounds=1000000 {mode}"))
    move_at_work(guest, lambda: with_rng(GuestVm(None)), 8, devices_first=devices_first)


@pytest.mark.parametrize("mode", MODES)
def test_no_request_is_lost_over_pauses(mode):
    with with_rng(GuestVm("rng", cmdline=f"rounds=1000000 {mode}")) as guest:
        pause_at_work(guest, 100)


def test_the_source_may_be_a_file(rng_guest, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(range(100)))
    fd = os.open(source, os.O_RDONLY)
    create_rng(rng_guest.vm, rng_guest.place("file", 4), fd)
    os.close(fd)
    driver = driver_of(rng_guest, 4)
    (queue,) = driver.start(0, [8])
    at = driver.allocate(4096)
    queue.add(writable=[(at, 40), (at + 100, 20)])
    queue.kick()
    assert queue.wait()[1] == 60
    taken = rng_guest.vm.read_memory(at, 40) + rng_guest.vm.read_memory(at + 100, 20)
    assert taken == bytes(range(60))
    for expected in (40, 0):
        queue.add(writable=[(at, 50)])
        queue.kick()
        assert queue.wait()[1] == expected
    assert rng_guest.logged() == ["the source of entropy gives nothing: it is at its end"]


def test_a_source_that_has_nothing_yet_is_waited_for(rng_guest):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    device = create_rng(rng_guest.vm, rng_guest.place("pipe", 4), reader)
    os.close(reader)
    driver = driver_of(rng_guest, 4)
    (queue,) = driver.start(0, [8])
    at = driver.allocate(4096)
    queue.add(writable=[(at, 40)])
    queue.kick()
    time.sleep(0.05)
    assert queue.take() is None
    device.save()  # stands still and goes on
    os.write(writer, b"entropy")
    assert queue.wait()[1] == 7
    assert rng_guest.vm.read_memory(at, 7) == b"entropy"
    os.close(writer)


def test_a_limiter_holds_it_back_and_loses_nothing(rng_guest):
    limiter = create_limiter(rng_guest.vm, bandwidth=Bucket(size=1000, refill_ms=100))
    device = create_rng(rng_guest.vm, rng_guest.place("slow", 4), limiter=limiter)
    driver = driver_of(rng_guest, 4)
    (queue,) = driver.start(0, [16])
    at = driver.allocate(4096)
    started = time.monotonic()
    for _ in range(8):
        queue.add(writable=[(at, 500)])
    queue.kick()
    assert [queue.wait()[1] for _ in range(8)] == [500] * 8
    assert 0.24 < time.monotonic() - started < 10.0
    assert device.counters()["throttled_us"] > 200_000


def test_what_the_guest_gives_is_not_written(rng_guest):
    driver = driver_of(rng_guest)
    (queue,) = driver.start(0, [8])
    at = driver.allocate(4096)
    queue.add(readable=[(at, 64)])
    queue.add(readable=[(at, 64)], writable=[(at + 64, 64)])
    queue.kick()
    assert queue.wait()[1] == 0
    assert queue.wait()[1] == 64
    assert rng_guest.vm.read_memory(at, 64) == bytes(64)
    assert rng_guest.vm.read_memory(at + 64, 64) != bytes(64)


def test_a_source_must_be_a_descriptor(rng_guest):
    with pytest.raises(ShimError):
        create_rng(rng_guest.vm, rng_guest.place("none", 4), 1 << 20)
