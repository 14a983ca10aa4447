# SPDX-License-Identifier: Apache-2.0
"""A disk that stands still under full I/O, or moves to another machine."""

import errno
import struct
import threading
import time

import pytest

import kvm_shim
from tests.support.disks import MEMORY, Disk, Outcome, Request, machine, pattern
from tests.support.ports import forged

pytestmark = pytest.mark.kvm

SIZE = 4 << 20
BLOCK = 8192
BLOCKS = SIZE // BLOCK
DEPTH = 24
QUEUES = 2
CONFIG = 256  # of the transport's part of the state: the configuration space
WRITEBACK = 32


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    return path


class Load:
    """Writes every block of the disk, with each queue full all the time, then reads all back."""

    def __init__(self, disk):
        self.disk = disk
        self.written = 0
        self._free = [list(range(DEPTH)) for _ in range(QUEUES)]
        self._busy = {}
        self._data = [
            [disk.queues[queue].put(bytes(BLOCK), 512) for _ in range(DEPTH)]
            for queue in range(QUEUES)
        ]
        self._headers = [
            [disk.queues[queue].put(bytes(16)) for _ in range(DEPTH)] for queue in range(QUEUES)
        ]
        self._states = [
            [disk.queues[queue].put(b"\xee") for _ in range(DEPTH)] for queue in range(QUEUES)
        ]
        self._next = 0

    def step(self):
        """Take what is done, and fill the queues again."""
        for index, queue in enumerate(self.disk.queues):
            for chain in queue.take():
                slot = self._busy.pop((index, chain.readable[0]))
                assert self.disk.status(chain) is Outcome.OK
                self._free[index].append(slot)
                self.written += 1
            while self._free[index] and self._next < BLOCKS:
                slot = self._free[index].pop()
                header, data = self._headers[index][slot], self._data[index][slot]
                sector = self._next * BLOCK // 512
                vm = self.disk.vm
                vm.write_memory(header[0], struct.pack("<IIQ", Request.OUT, 0, sector))
                vm.write_memory(data[0], pattern(BLOCK, seed=self._next + 7))
                queue.add([header, data], [self._states[index][slot]])
                self._busy[index, header] = slot
                self._next += 1
            queue.kick()

    def move(self, other):
        """Go on with another disk."""
        self.disk.move(other)
        self.disk = other

    def finish(self, timeout=60.0):
        """Write what is left, and check all of it."""
        deadline = time.monotonic() + timeout
        while self.written < BLOCKS:
            assert time.monotonic() < deadline, f"{self.written} of {BLOCKS} blocks"
            self.step()
            time.sleep(0.0002)


def check(image):
    data = image.read_bytes()
    for block in range(BLOCKS):
        assert data[block * BLOCK :][:BLOCK] == pattern(BLOCK, seed=block + 7), block


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_pause_under_full_load_loses_nothing(image, engine, direct):
    with machine() as (vm, bus):
        disk = Disk(vm, bus, image, direct=direct, engine=engine, num_queues=QUEUES)
        vm.start()
        vm.resume()
        disk.start()
        load = Load(disk)
        for _ in range(25):
            load.step()
            vm.pause()
            before = disk.counters()["write_ops"]
            load.step()  # the guest's memory only: nobody looks at it
            time.sleep(0.001)
            assert disk.counters()["write_ops"] == before
            vm.resume()
        load.finish()
        assert disk.counters()["write_ops"] == BLOCKS
    check(image)


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_a_disk_moves_to_another_machine_under_full_load(image, engine, direct):
    options = {"direct": direct, "engine": engine, "num_queues": QUEUES}
    with machine() as (vm, bus), machine() as (there, other_bus):
        disk = Disk(vm, bus, image, **options)
        vm.start()
        vm.resume()
        disk.start()
        load = Load(disk)
        for _ in range(10):
            load.step()
        load.step()
        vm.pause()
        assert load.written < BLOCKS
        there.write_memory(0, vm.read_memory(0, MEMORY))
        other = Disk(there, other_bus, image, **options)
        other.block.load(disk.block.save())
        load.move(other)
        there.start()
        there.resume()
        load.finish()
        assert disk.counters()["write_ops"] + other.counters()["write_ops"] == BLOCKS
    check(image)


def test_resets_under_full_load(image, engine):
    """A reset waits for what is in flight, and what was not begun is not done."""
    with machine() as (vm, bus):
        disk = Disk(vm, bus, image, engine=engine)
        for turn in range(20):
            disk.start()
            for number in range(30):
                disk.submit(Request.OUT, number * 16, data=pattern(BLOCK, seed=turn))
            disk.queue.kick()
            disk.driver.status = 0
            assert disk.driver.status == 0
            done = disk.counters()["write_ops"]
            time.sleep(0.001)
            assert disk.counters()["write_ops"] == done
        disk.start()
        assert disk.request(Request.IN, 0, size=512) is Outcome.OK


def test_a_pause_while_another_thread_makes_requests(image, engine):
    with machine() as (vm, bus):
        disk = Disk(vm, bus, image, engine=engine)
        vm.start()
        vm.resume()
        disk.start()
        over = threading.Event()

        def pause():
            while not over.is_set():
                vm.pause()
                vm.resume()

        thread = threading.Thread(target=pause)
        thread.start()
        try:
            for number in range(400):
                data = pattern(4096, seed=number)
                assert disk.request(Request.OUT, number * 8, data=data) is Outcome.OK
                assert disk.read(number * 8, 4096) == data
        finally:
            over.set()
            thread.join()


def test_the_write_cache_moves_along(image):
    with machine() as (vm, bus), machine() as (there, other_bus):
        disk, other = Disk(vm, bus, image), Disk(there, other_bus, image)
        disk.start()
        disk.driver.config.write(WRITEBACK, 0)
        other.block.load(disk.block.save())
        disk.move(other)
        there.write_memory(0, vm.read_memory(0, MEMORY))
        assert other.driver.config.read(WRITEBACK) == 0
        there.start()
        there.resume()
        assert other.request(Request.OUT, 0, data=bytes(512)) is Outcome.OK


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [(WRITEBACK, b"\2", "write cache"), (0, b"\1", "sectors"), (20, b"\1", "other properties")],
)
def test_state_of_another_disk_is_refused(image, offset, data, message):
    with machine() as (vm, bus):
        disk = Disk(vm, bus, image)
        state = disk.block.save()
        with pytest.raises(kvm_shim.ShimError, match=message) as caught:
            disk.block.load(forged(state, CONFIG + offset, data))
        assert caught.value.errno == errno.EINVAL
        assert disk.block.save() == state
