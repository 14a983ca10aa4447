# SPDX-License-Identifier: Apache-2.0
"""Split virtqueues: what a driver may put into them, and what it may not."""

import struct

import pytest

from kvm_shim import Space
from tests.support.ports import Ports

pytestmark = pytest.mark.kvm

QUEUE_SIZE, QUEUE_ENABLE, QUEUE_DESC, QUEUE_USED = 0x18, 0x1C, 0x20, 0x30
ISR = 0x2000
RUNNING = 0x0F
INDIRECT, EVENT_IDX = 1 << 28, 1 << 29
NEXT, WRITE, TABLE = 1, 2, 4
ONES = 0xFFFF_FFFF


def chain(queue, driver, *descriptors):
    """Make a chain of (address, length, flags, next) available from descriptor 0 on."""
    for index, each in enumerate(descriptors):
        queue.write_descriptor(index, *each)
    queue.offer(0)
    driver.notify(0)


def indirect(queue, driver, *descriptors, flags=TABLE, length=None):
    at = driver.allocate(4096)
    table = b"".join(struct.pack("<QIHH", *each) for each in descriptors)
    driver.vm.write_memory(at, table)
    chain(queue, driver, (at, len(table) if length is None else length, flags, 0))


def loop(queue, driver, at):
    chain(queue, driver, (at, 8, NEXT | WRITE, 1), (at, 8, NEXT | WRITE, 0))


def index_jump(queue, driver, _):
    queue.offer(0, by=9)
    driver.notify(0)


def no_descriptor(queue, driver, _):
    queue.offer(99)
    driver.notify(0)


WRONG = {
    "a chain that loops": loop,
    "9 entries available in a ring of 8": index_jump,
    "descriptor 99 of 8 is available": no_descriptor,
    "descriptor 77 of 8 is next": lambda q, d, at: chain(q, d, (at, 8, NEXT, 77)),
    "a chain without a buffer": lambda q, d, at: chain(q, d, (at, 0, 0, 0)),
    "a buffer of 8 bytes at 0x500000 is not in RAM": lambda q, d, _: chain(
        q, d, (0x500000, 8, WRITE, 0)
    ),
    "a buffer of 16 bytes at 0x3ffff8 is not in RAM": lambda q, d, _: chain(
        q, d, (0x3FFFF8, 16, WRITE, 0)
    ),
    "a buffer of 8 bytes at 0xfffffffffffffffc is not in RAM": lambda q, d, _: chain(
        q, d, (0xFFFFFFFFFFFFFFFC, 8, WRITE, 0)
    ),
    "a readable buffer follows a writable one": lambda q, d, at: chain(
        q, d, (at, 8, NEXT | WRITE, 1), (at, 8, 0, 0)
    ),
    "an indirect table in an indirect table": lambda q, d, at: indirect(q, d, (at, 16, TABLE, 0)),
    "an indirect table of 24 bytes": lambda q, d, at: indirect(q, d, (at, 8, WRITE, 0), length=24),
    "an indirect table of 0 bytes": lambda q, d, _: indirect(q, d),
    "an indirect table of 16 bytes": lambda q, d, at: indirect(
        q, d, (at, 8, WRITE, 0), flags=TABLE | NEXT
    ),
    "descriptor 2 of 2 is next": lambda q, d, at: indirect(
        q, d, (at, 8, NEXT | WRITE, 2), (at, 8, WRITE, 0)
    ),
    "a chain of more than 64 buffers": lambda q, d, at: indirect(
        q, d, *[(at, 8, NEXT | WRITE, index + 1) for index in range(65)]
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_malformed_ring_stops_the_device_until_it_is_reset(rng_guest, rng_driver, text):
    rng_driver.begin(INDIRECT)
    queue = rng_driver.queue(0, 8)
    rng_driver.ready()
    at = rng_driver.allocate(4096)
    rng_guest.events()
    WRONG[text](queue, rng_driver, at)
    while not rng_driver.needs_reset:
        pass
    (log,) = rng_guest.logged()
    assert f"queue 0: {text}" in log
    while (isr := rng_guest.vm.bus_read(Space.MMIO, rng_driver.bar + ISR, 1)) == 0:
        pass
    assert isr == 2  # a change of configuration
    assert queue.take() is None
    assert rng_guest.devices["rng"].counters()["errors"] == 1
    queue.add(writable=[(at, 64)])
    queue.kick()
    assert queue.take() is None

    (queue,) = rng_driver.start(INDIRECT, [8])
    queue.add(writable=[(at, 64)])
    queue.kick()
    assert queue.wait()[1] == 64


def test_indirect_tables_are_taken_only_when_negotiated(rng_guest, rng_driver):
    (queue,) = rng_driver.start(0, [8])
    indirect(queue, rng_driver, (rng_driver.allocate(64), 8, WRITE, 0))
    while not rng_driver.needs_reset:
        pass
    assert "indirect" in rng_guest.logged()[0]


def test_a_chain_may_end_in_a_table(rng_driver):
    (queue,) = rng_driver.start(INDIRECT, [8])
    at = rng_driver.allocate(4096)
    table = rng_driver.allocate(4096)
    entries = [(at + 512, 100, NEXT | WRITE, 2), (0, 0, 0, 0), (at + 1024, 28, WRITE, 0)]
    rng_driver.vm.write_memory(table, b"".join(struct.pack("<QIHH", *each) for each in entries))
    queue.write_descriptor(5, table, 48, TABLE)
    queue.write_descriptor(2, at, 36, NEXT, 5)
    queue.offer(2)
    queue.kick()
    queue._chains[2] = []
    assert queue.wait() == (2, 128)


def test_a_table_that_is_the_ring_itself_is_not_followed_for_ever(rng_guest, rng_driver):
    (queue,) = rng_driver.start(INDIRECT, [8])
    chain(queue, rng_driver, (queue.descriptors, 128, TABLE, 0))
    while not rng_driver.needs_reset:
        pass
    assert "an indirect table in an indirect table" in rng_guest.logged()[0]


@pytest.mark.parametrize("part", [QUEUE_DESC, QUEUE_DESC + 8, QUEUE_USED])
@pytest.mark.parametrize("address", [0x300001, 0x3FFFFE & ~1, 0x500000, 0xFFFFFFFFFFFFFFF0])
def test_rings_must_be_in_ram(rng_guest, rng_driver, part, address):
    bar = Ports(rng_guest.vm, rng_driver.bar, Space.MMIO)
    rng_driver.begin(0)
    bar.write(QUEUE_SIZE, 8, 2)
    for register in (QUEUE_DESC, QUEUE_DESC + 8, QUEUE_USED):
        value = address if register == part else rng_driver.allocate(4096)
        bar.write(register, value & ONES, 4)
        bar.write(register + 4, value >> 32, 4)
    bar.write(QUEUE_ENABLE, 1, 2)
    rng_driver.ready()
    assert rng_driver.needs_reset
    (log,) = rng_guest.logged()
    assert f"ring at 0x{address:x} is not aligned or not in RAM" in log
    (queue,) = rng_driver.start(0, [8])
    queue.add(writable=[(rng_driver.allocate(64), 8)])
    queue.kick()
    queue.wait()


def test_a_queue_may_stay_unused(rng_driver):
    rng_driver.begin(0)
    rng_driver.ready()
    rng_driver.notify(0)
    assert rng_driver.status == RUNNING
    rng_driver.status = 0
    assert rng_driver.status == 0


def test_buffers_cross_memory_slots(rng_guest, rng_driver):
    rng_guest.vm.add_memory(4 << 20, 1 << 20)
    (queue,) = rng_driver.start(0, [8])
    queue.add(writable=[((4 << 20) - 100, 200)])
    queue.kick()
    assert queue.wait()[1] == 200
    data = rng_guest.vm.read_memory((4 << 20) - 100, 200)
    assert len(set(data[:100])) > 10
    assert len(set(data[100:])) > 10


def test_a_ring_goes_round_many_times(rng_driver):
    (queue,) = rng_driver.start(EVENT_IDX, [4])
    at = rng_driver.allocate(4096)
    for _ in range(100):
        for _ in range(4):
            queue.add(writable=[(at, 16)])
        queue.kick()
        for _ in range(4):
            assert queue.wait()[1] == 16
