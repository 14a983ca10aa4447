# SPDX-License-Identifier: Apache-2.0
"""Split virtqueues: what a driver may put into them, and what it may not."""

import struct

import pytest

from kvm_shim import EventKind, Space
from kvm_shim.virtio.rng import create_rng
from tests.support.machines import GuestVm
from tests.support.ports import Ports
from tests.support.virtio import Driver

pytestmark = pytest.mark.kvm

SLOT = 3
BUFFERS = 0x300000
QUEUE_SIZE, QUEUE_ENABLE, QUEUE_DESC, QUEUE_USED = 0x18, 0x1C, 0x20, 0x30
ISR = 0x2000
RUNNING = 0x0F
INDIRECT, EVENT_IDX = 1 << 28, 1 << 29
NEXT, WRITE, TABLE = 1, 2, 4
ONES = 0xFFFF_FFFF


@pytest.fixture
def guest():
    with GuestVm(None) as guest:
        guest.devices["rng"] = create_rng(guest.vm, guest.place("_rng", SLOT))
        yield guest


@pytest.fixture
def driver(guest):
    return Driver(guest.vm, SLOT, BUFFERS)


def events(guest):
    return list(iter(guest.vm.next_event, None))


def logged(guest):
    return [event.text for event in events(guest) if event.kind == EventKind.DEVICE_LOG]


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
def test_a_malformed_ring_stops_the_device_until_it_is_reset(guest, driver, text):
    driver.begin(INDIRECT)
    queue = driver.queue(0, 8)
    driver.ready()
    at = driver.allocate(4096)
    events(guest)
    WRONG[text](queue, driver, at)
    while not driver.needs_reset:
        pass
    (log,) = logged(guest)
    assert f"queue 0: {text}" in log
    while (isr := guest.vm.bus_read(Space.MMIO, driver.bar + ISR, 1)) == 0:
        pass
    assert isr == 2  # a change of configuration
    assert queue.take() is None
    assert guest.devices["rng"].counters()["errors"] == 1
    queue.add(writable=[(at, 64)])
    queue.kick()
    assert queue.take() is None

    (queue,) = driver.start(INDIRECT, [8])
    queue.add(writable=[(at, 64)])
    queue.kick()
    assert queue.wait()[1] == 64


def test_indirect_tables_are_taken_only_when_negotiated(guest, driver):
    (queue,) = driver.start(0, [8])
    indirect(queue, driver, (driver.allocate(64), 8, WRITE, 0))
    while not driver.needs_reset:
        pass
    assert "indirect" in logged(guest)[0]


def test_a_chain_may_end_in_a_table(driver):
    (queue,) = driver.start(INDIRECT, [8])
    at = driver.allocate(4096)
    table = driver.allocate(4096)
    entries = [(at + 512, 100, NEXT | WRITE, 2), (0, 0, 0, 0), (at + 1024, 28, WRITE, 0)]
    driver.vm.write_memory(table, b"".join(struct.pack("<QIHH", *each) for each in entries))
    queue.write_descriptor(5, table, 48, TABLE)
    queue.write_descriptor(2, at, 36, NEXT, 5)
    queue.offer(2)
    queue.kick()
    queue._chains[2] = []
    assert queue.wait() == (2, 128)


def test_a_table_that_is_the_ring_itself_is_not_followed_for_ever(guest, driver):
    (queue,) = driver.start(INDIRECT, [8])
    chain(queue, driver, (queue.descriptors, 128, TABLE, 0))
    while not driver.needs_reset:
        pass
    assert "an indirect table in an indirect table" in logged(guest)[0]


@pytest.mark.parametrize("part", [QUEUE_DESC, QUEUE_DESC + 8, QUEUE_USED])
@pytest.mark.parametrize("address", [0x300001, 0x3FFFFE & ~1, 0x500000, 0xFFFFFFFFFFFFFFF0])
def test_rings_must_be_in_ram(guest, driver, part, address):
    bar = Ports(guest.vm, driver.bar, Space.MMIO)
    driver.begin(0)
    bar.write(QUEUE_SIZE, 8, 2)
    for register in (QUEUE_DESC, QUEUE_DESC + 8, QUEUE_USED):
        value = address if register == part else driver.allocate(4096)
        bar.write(register, value & ONES, 4)
        bar.write(register + 4, value >> 32, 4)
    bar.write(QUEUE_ENABLE, 1, 2)
    driver.ready()
    assert driver.needs_reset
    (log,) = logged(guest)
    assert f"ring at 0x{address:x} is not aligned or not in RAM" in log
    (queue,) = driver.start(0, [8])
    queue.add(writable=[(driver.allocate(64), 8)])
    queue.kick()
    queue.wait()


def test_a_queue_may_stay_unused(driver):
    driver.begin(0)
    driver.ready()
    driver.notify(0)
    assert driver.status == RUNNING
    driver.status = 0
    assert driver.status == 0


def test_buffers_cross_memory_slots(guest, driver):
    guest.vm.add_memory(4 << 20, 1 << 20)
    (queue,) = driver.start(0, [8])
    queue.add(writable=[((4 << 20) - 100, 200)])
    queue.kick()
    assert queue.wait()[1] == 200
    data = guest.vm.read_memory((4 << 20) - 100, 200)
    assert len(set(data[:100])) > 10
    assert len(set(data[100:])) > 10


def test_a_ring_goes_round_many_times(driver):
    (queue,) = driver.start(EVENT_IDX, [4])
    at = driver.allocate(4096)
    for _ in range(100):
        for _ in range(4):
            queue.add(writable=[(at, 16)])
        queue.kick()
        for _ in range(4):
            assert queue.wait()[1] == 16
