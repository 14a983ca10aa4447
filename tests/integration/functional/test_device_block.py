# SPDX-License-Identifier: Apache-2.0
"""The virtio disk: what it offers, and what each kind of request does to the image."""

import itertools
import os
import struct
from pathlib import Path

import pytest

from tests.support.disks import IMAGE_SIZE, Disk, Outcome, Request, pattern

pytestmark = pytest.mark.kvm

SECTORS = IMAGE_SIZE // 512

SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES = (
    1 << bit for bit in (2, 5, 6, 9, 10, 11, 12, 13, 14)
)
CAPACITY, CONFIG_SEG_MAX, CONFIG_BLK_SIZE, WRITEBACK, NUM_QUEUES = 0, 12, 20, 32, 34
UNMAP = 1


NO_SENSE = [
    (Request.IN, SECTORS, {"size": 512}, Outcome.IOERR),
    (Request.IN, SECTORS - 1, {"size": 1024}, Outcome.IOERR),
    (Request.IN, (1 << 64) - 1, {"size": 512}, Outcome.IOERR),
    (Request.IN, 1 << 55, {"size": 512}, Outcome.IOERR),  # 512 times it is 0
    (Request.OUT, SECTORS, {"data": bytes(512)}, Outcome.IOERR),
    (Request.IN, 0, {"size": 100}, Outcome.IOERR),
    (Request.OUT, 0, {"data": bytes(513)}, Outcome.IOERR),
    (Request.IN, 0, {}, Outcome.OK),
    (Request.IN, SECTORS, {}, Outcome.OK),
    (Request.OUT, 0, {}, Outcome.OK),
    (2, 0, {"size": 512}, Outcome.UNSUPP),
    (14, 0, {"data": bytes(16)}, Outcome.UNSUPP),
    (0xFFFF_FFFF, 0, {}, Outcome.UNSUPP),
    (0x8000_0000, 0, {}, Outcome.UNSUPP),
    (Request.DISCARD, 0, {"data": bytes(8)}, Outcome.IOERR),
    (Request.DISCARD, 0, {"data": struct.pack("<QII", 0, 8, 0) * 2}, Outcome.IOERR),
    (Request.DISCARD, 0, {"data": struct.pack("<QII", 0, 8, UNMAP)}, Outcome.UNSUPP),
    (Request.DISCARD, 0, {"data": struct.pack("<QII", SECTORS, 1, 0)}, Outcome.IOERR),
    (Request.DISCARD, 0, {"data": struct.pack("<QII", 1 << 63, 1, 0)}, Outcome.IOERR),
    (Request.DISCARD, 0, {"data": struct.pack("<QII", 0, 0xFFFFFFFF, 0)}, Outcome.IOERR),
    (Request.DISCARD, 0, {"data": bytes(16)}, Outcome.OK),
    (Request.WRITE_ZEROES, 0, {"data": struct.pack("<QII", 0, 8, 2)}, Outcome.UNSUPP),
    (Request.WRITE_ZEROES, 0, {"data": struct.pack("<QII", 1, SECTORS, 0)}, Outcome.IOERR),
]
"""Requests, and how they end; none changes the disk."""


@pytest.fixture(params=[False, True], ids=["cached", "direct"])
def disk(pc, image, engine, request):
    each = Disk(*pc, image, direct=request.param, engine=engine)
    assert each.block.engine is engine
    each.start()
    return each


def test_offers_and_configuration(pc, image):
    disk = Disk(*pc, image, num_queues=3, queue_size=64)
    always = SEG_MAX | BLK_SIZE | TOPOLOGY | FLUSH | CONFIG_WCE | DISCARD | WRITE_ZEROES
    assert disk.driver.offered & 0xFFFFFF == always | MQ
    config = disk.driver.config.read
    assert config(CAPACITY, 4) | config(CAPACITY + 4, 4) << 32 == SECTORS
    assert config(CONFIG_SEG_MAX, 4) == 62
    assert config(CONFIG_BLK_SIZE, 4) == 512
    assert config(WRITEBACK, 1) == 1
    assert config(NUM_QUEUES, 2) == 3
    for offset in (36, 40, 44, 48, 52):  # limits of discard and write-zeroes
        assert config(offset, 4) > 0
    assert config(56, 1) == 1  # write_zeroes_may_unmap


def test_offers_of_a_disk_that_is_only_read(pc, image):
    disk = Disk(*pc, image, readonly=True)
    assert disk.driver.offered & (RO | DISCARD | WRITE_ZEROES | MQ) == RO


def test_offers_of_a_disk_that_is_not_sparse(pc, image):
    assert not Disk(*pc, image, sparse=False).driver.offered & (DISCARD | WRITE_ZEROES)


def test_reads_what_is_in_the_image(disk):
    whole = pattern(IMAGE_SIZE)
    for sector, size in [(0, 512), (7, 4096), (SECTORS - 1, 512), (100, 1 << 20)]:
        assert disk.read(sector, size) == whole[sector * 512 : sector * 512 + size]


def test_writes_end_up_in_the_image(disk, image):
    data = pattern(256 << 10, seed=2)
    assert disk.request(Request.OUT, 16, data=data) is Outcome.OK
    assert disk.request(Request.FLUSH) is Outcome.OK
    assert image.read_bytes()[16 * 512 :][: len(data)] == data
    assert disk.read(16, len(data)) == data


def test_segments_of_any_place_and_size(disk):
    """Nothing is aligned here; direct I/O goes by a bounce buffer, in several pieces."""
    data = pattern(600 << 10, seed=3)
    queue = disk.queue
    header = struct.pack("<IIQ", Request.OUT, 0, 8)
    stream = header + data
    cuts = [0, 3, 16 + 1, 16 + 513, 16 + 100_001, len(stream)]
    readable = [queue.put(stream[a:b], 1) for a, b in itertools.pairwise(cuts)]
    queue.add(readable, [queue.put(b"\xee", 1)])
    queue.kick()
    [chain] = queue.wait()
    assert disk.status(chain) is Outcome.OK
    assert chain.written == 1

    queue.rewind()
    cuts = [0, 1, 777, 70_000, 300_001, len(data) + 1]  # the last has the status, too
    readable = [queue.put(struct.pack("<IIQ", Request.IN, 0, 8))]
    writable = [(queue.room(b - a + 1, 1), b - a) for a, b in itertools.pairwise(cuts)]
    queue.add(readable, writable)
    queue.kick()
    [chain] = queue.wait()
    assert disk.status(chain) is Outcome.OK
    assert queue.data(chain)[:-1] == data


def test_more_unaligned_requests_than_bounce_buffers(disk):
    data = [pattern(4096, seed=number) for number in range(24)]
    for number, each in enumerate(data):
        disk.submit(Request.OUT, number * 8, data=each, alignment=1)
        disk.queue.room(1, 1)  # the next one is not aligned
    disk.queue.kick()
    assert {disk.status(chain) for chain in disk.queue.wait(len(data))} == {Outcome.OK}
    assert disk.read(0, 4096 * len(data)) == b"".join(data)


def test_indirect_chains(disk):
    data = pattern(8192, seed=4)
    assert disk.request(Request.OUT, 0, data=data, indirect=True) is Outcome.OK
    assert disk.read(0, 8192, indirect=True) == data


def test_a_full_queue(disk):
    for number in range(disk.size // 4):
        disk.submit(Request.IN, number, size=512)
    disk.queue.kick()
    whole = pattern(IMAGE_SIZE)
    for chain in disk.queue.wait(disk.size // 4):
        header = disk.vm.read_memory(*chain.readable[0])
        sector = struct.unpack("<IIQ", header)[2]
        assert disk.status(chain) is Outcome.OK
        assert disk.queue.data(chain)[:-1] == whole[sector * 512 :][:512]


def test_identity(pc, image, engine):
    disk = Disk(*pc, image, engine=engine, serial=b"0123456789abcdefghij")
    disk.start()
    for size, expected in [(20, b"0123456789abcdefghij"), (8, b"01234567"), (32, None)]:
        disk.queue.rewind()
        chain = disk.submit(Request.GET_ID, size=size)
        disk.queue.kick()
        disk.queue.wait()
        assert disk.status(chain) is Outcome.OK
        if expected is not None:
            assert disk.queue.data(chain)[:-1] == expected
        assert chain.written == min(size, 20) + 1


def test_discard_frees_space(disk, image):
    before = image.stat().st_blocks
    assert disk.range(Request.DISCARD, 2048, 4096) is Outcome.OK
    assert image.stat().st_blocks <= before - 4096 + 64
    assert disk.read(2048, 4096) == bytes(4096)
    assert disk.read(2040, 4096) == pattern(IMAGE_SIZE)[2040 * 512 :][:4096]
    assert disk.counters()["discard_ops"] == 1


@pytest.mark.parametrize("flags", [0, UNMAP])
def test_write_zeroes(disk, image, flags):
    assert disk.range(Request.WRITE_ZEROES, 11, 3000, flags) is Outcome.OK
    whole = pattern(IMAGE_SIZE)
    expected = whole[: 11 * 512] + bytes(3000 * 512) + whole[3011 * 512 :]
    assert image.read_bytes() == expected
    assert disk.counters()["write_zeroes_ops"] == 1


def test_write_zeroes_where_the_file_system_cannot(pc, engine, tmp_path):
    """tmpfs knows no FALLOC_FL_ZERO_RANGE: zeroes are written, in several steps."""
    path = Path("/dev/shm", f"velum-{os.getpid()}-{tmp_path.name}")
    path.write_bytes(pattern(IMAGE_SIZE))
    try:
        disk = Disk(*pc, path, engine=engine, queue_size=4)
        disk.start()
        assert disk.range(Request.WRITE_ZEROES, 1, SECTORS - 2) is Outcome.OK
        expected = pattern(IMAGE_SIZE)[:512] + bytes(IMAGE_SIZE - 1024) + pattern(IMAGE_SIZE)[-512:]
        assert path.read_bytes() == expected
    finally:
        path.unlink()


@pytest.mark.parametrize("row", NO_SENSE)
def test_requests_that_make_no_sense(disk, image, row):
    kind, sector, what, outcome = row
    assert disk.request(kind, sector, **what) is outcome
    assert disk.counters()["io_errors"] == (outcome is Outcome.IOERR)
    assert image.read_bytes() == pattern(IMAGE_SIZE)
    assert disk.read(0, 512) == pattern(512)  # it works on


def test_a_header_that_is_too_short(disk):
    chain = disk.queue.add([disk.queue.put(bytes(15))], [disk.queue.put(b"\xee" * 4)])
    disk.queue.kick()
    disk.queue.wait()
    assert disk.status(chain) is Outcome.IOERR


def test_a_request_without_a_status_breaks_the_device_until_its_reset(disk):
    disk.queue.add([disk.queue.put(bytes(16))], [])
    disk.queue.kick()
    assert "status" in disk.logged()
    assert disk.driver.needs_reset
    disk.start()
    assert disk.read(0, 512) == pattern(512)


def test_ranges_are_unknown_where_they_were_not_negotiated(disk):
    disk.start(FLUSH)
    assert disk.range(Request.DISCARD, 0, 8) is Outcome.UNSUPP
    assert disk.range(Request.WRITE_ZEROES, 0, 8) is Outcome.UNSUPP


def test_a_disk_that_is_only_read(pc, image, engine):
    image.chmod(0o400)
    disk = Disk(*pc, image, engine=engine, readonly=True)
    disk.start()
    assert disk.read(5, 512) == pattern(IMAGE_SIZE)[5 * 512 :][:512]
    assert disk.request(Request.OUT, 0, data=bytes(512)) is Outcome.IOERR
    assert disk.request(Request.FLUSH) is Outcome.OK
    assert disk.range(Request.DISCARD, 0, 8) is Outcome.UNSUPP


def test_the_write_cache_can_be_turned_off(disk):
    driver = disk.driver
    driver.config.write(WRITEBACK, 0)
    assert driver.config.read(WRITEBACK) == 0
    assert disk.request(Request.OUT, 0, data=pattern(4096, 5)) is Outcome.OK
    assert disk.range(Request.WRITE_ZEROES, 8, 8) is Outcome.OK
    driver.config.write(WRITEBACK, 1)
    assert driver.config.read(WRITEBACK) == 1
    driver.config.write(WRITEBACK, 0)
    disk.start()  # a reset turns it on again
    assert driver.config.read(WRITEBACK) == 1


def test_a_driver_without_flushes_has_no_write_cache(disk):
    disk.start(CONFIG_WCE)
    assert disk.driver.config.read(WRITEBACK) == 0
    disk.driver.config.write(WRITEBACK, 1)
    assert disk.driver.config.read(WRITEBACK) == 0
    assert disk.request(Request.OUT, 0, data=bytes(512)) is Outcome.OK


def test_several_queues_at_once(pc, image, engine):
    disk = Disk(*pc, image, engine=engine, num_queues=4)
    disk.start()
    for index, queue in enumerate(disk.queues):
        for number in range(16):
            disk.submit(
                Request.OUT, (index * 16 + number) * 8, queue=index, data=pattern(4096, index)
            )
        queue.kick()
    for queue in disk.queues:
        assert {disk.status(chain) for chain in queue.wait(16)} == {Outcome.OK}
    for index in range(4):
        assert disk.read(index * 128, 4096, queue=index) == pattern(4096, index)
    counters = disk.counters()
    assert counters["write_ops"] == 64
    assert counters["write_bytes"] == 64 * 4096


def test_counters(disk):
    disk.read(0, 4096)
    disk.read(8, 512)
    disk.request(Request.OUT, 0, data=bytes(1024))
    disk.request(Request.FLUSH)
    counters = disk.counters()
    assert counters["read_ops"] == 2
    assert counters["read_bytes"] == 4608
    assert counters["write_ops"] == 1
    assert counters["write_bytes"] == 1024
    assert counters["flush_ops"] == 1
    assert counters["io_errors"] == counters["discard_ops"] == counters["throttled_us"] == 0
    low, middle, high = (counters[f"read_latency_{each}"] for each in ("min", "avg", "max"))
    assert 0 < low <= middle <= high
    assert low + high <= counters["read_latency_sum"]
