# SPDX-License-Identifier: Apache-2.0
"""Rate limiters: what a disk gets through them in a time, and their state."""

import errno
import time

import pytest

import kvm_shim
from kvm_shim.virtio.limiter import Bucket, create_limiter
from tests.support.disks import Disk, Outcome, Request, machine
from tests.support.ports import forged

pytestmark = pytest.mark.kvm

DEPTH = 16


def load(disks, seconds, size):
    """Keep requests in flight on each disk; return what each did, and the time it took.

    And the time for which there were more requests than the limiter let through: a busy
    host may be slower than the limit.
    """
    for disk in disks:
        disk.queue.rewind()
        for number in range(DEPTH):
            disk.submit(Request.IN, number * 8, size=size)
        disk.queue.kick()
    before = [disk.counters() for disk in disks]
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        for disk in disks:
            for chain in disk.queue.take():
                assert disk.status(chain) is Outcome.OK
                disk.queue.add(chain.readable, chain.writable)
                disk.queue.kick()
        time.sleep(0.0005)
    elapsed = time.monotonic() - started
    changes = [
        {name: late[name] - early[name] for name in late}
        for early, late in zip(before, [disk.counters() for disk in disks], strict=True)
    ]
    limited = max(change["throttled_us"] for change in changes) / 1e6
    return [change["read_ops"] for change in changes], elapsed, limited


def spend(disk, refill_ms):
    """Have the bucket empty, which is full at first."""
    while disk.counters()["throttled_us"] < 1000 * min(refill_ms, 100):
        load([disk], 0.1, 64 << 10)
        disk.queue.wait(DEPTH)


def check(disks, rate, size):
    """Check that the disks together get `rate` requests of that size in a second."""
    for _ in range(3):
        load(disks, 0.3, size)  # what the full bucket began with
        for disk in disks:
            disk.queue.wait(DEPTH)
        counts, elapsed, limited = load(disks, 1.0, size)
        for disk in disks:
            disk.queue.wait(DEPTH)
        allowed = rate * elapsed * 1.1 + 2 * len(disks)
        least = rate * min(limited, elapsed) * 0.9 - 2 * len(disks)
        if least <= sum(counts) <= allowed:
            return counts
    raise AssertionError(f"{counts} in {elapsed} s, {limited} of them limited to {rate} in 1 s")


@pytest.mark.parametrize(
    ("refill_ms", "size", "bytes_each"),
    [
        (1000, 4 << 20, 16 << 10),
        (100, 400 << 10, 16 << 10),
        (10, 40 << 10, 4096),
        (1, 4096, 4096),
        (1, 4096, 64 << 10),  # each request is far larger than the bucket
    ],
)
def test_bandwidth_is_accurate(pc, image, refill_ms, size, bytes_each):
    limiter = create_limiter(pc[0], bandwidth=Bucket(size, refill_ms))
    disk = Disk(*pc, image, limiter=limiter)
    disk.start()
    spend(disk, refill_ms)
    check([disk], size * 1000 / refill_ms / bytes_each, bytes_each)


@pytest.mark.parametrize(("refill_ms", "size"), [(1000, 400), (100, 40), (1, 1)])
def test_operations_are_accurate(pc, image, refill_ms, size):
    limiter = create_limiter(pc[0], operations=Bucket(size, refill_ms))
    disk = Disk(*pc, image, limiter=limiter)
    disk.start()
    spend(disk, refill_ms)
    check([disk], size * 1000 / refill_ms, 512)


def test_a_group_shares_one_limit(pc, image):
    limiter = create_limiter(pc[0], operations=Bucket(50, 100))
    disks = [Disk(*pc, image, readonly=True, slot=slot, limiter=limiter) for slot in (3, 4)]
    for number, disk in enumerate(disks):
        disk.start(memory=number << 25)
        spend(disk, 100)
    counts = check(disks, 500, 512)
    assert min(counts) > 50  # neither is starved


def test_the_burst_comes_once(pc, image):
    limiter = create_limiter(pc[0], operations=Bucket(1, 60_000, one_time_burst=40))
    disk = Disk(*pc, image, limiter=limiter)
    disk.start()
    for _ in range(41):
        disk.read(0, 512)
    disk.queue.rewind()
    disk.submit(Request.IN, 0, size=512)
    disk.queue.kick()
    time.sleep(0.2)
    assert disk.queue.take() == []
    assert disk.counters()["read_ops"] == 41


def test_what_waits_is_put_back_and_goes_on_elsewhere(pc, image):
    """The device can be saved while requests wait for tokens: they are the guest's again."""
    limiter = create_limiter(pc[0], operations=Bucket(2, 60_000))
    disk = Disk(*pc, image, limiter=limiter)
    disk.start()
    for number in range(DEPTH):
        disk.submit(Request.IN, number * 8, size=4096)
    disk.queue.kick()
    used = disk.queue.wait(2)
    states = limiter.save(), disk.block.save()
    with machine() as (vm, bus):
        vm.write_memory(0, pc[0].read_memory(0, 64 << 20))
        other_limiter = create_limiter(vm, operations=Bucket(2, 60_000))
        other = Disk(vm, bus, image, limiter=other_limiter)
        other_limiter.load(states[0])
        other.block.load(states[1])
        disk.move(other)
        vm.start()
        vm.resume()
        time.sleep(0.2)
        assert other.queue.take() == []  # the debt moved along
        vm.pause()
        other_limiter.load(forged(states[0], 16, bytes(8)))  # operations: full
        vm.resume()
        used += other.queue.wait(2)
        assert other.counters()["throttled_us"] > 0
    assert len(used) == 4


def test_state_moves(vm):
    limiter = create_limiter(
        vm, bandwidth=Bucket(1000, 60_000, one_time_burst=7), operations=Bucket(10, 60_000)
    )
    state = limiter.save()
    limiter.load(state)
    other = create_limiter(vm, bandwidth=Bucket(1000, 60_000, one_time_burst=6))
    with pytest.raises(kvm_shim.ShimError, match="burst of 7") as caught:
        other.load(state)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("refill_ms", [0, (1 << 40) + 1])
def test_a_refill_time_that_makes_no_sense(vm, refill_ms):
    with pytest.raises(kvm_shim.ShimError, match="bandwidth refills in"):
        create_limiter(vm, bandwidth=Bucket(1, refill_ms))


def test_only_a_limiter_limits(pc, image):
    with pytest.raises(kvm_shim.ShimError, match="no rate limiter"):
        Disk(*pc, image, limiter=pc[1])
