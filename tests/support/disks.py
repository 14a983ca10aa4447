# SPDX-License-Identifier: Apache-2.0
"""A virtio disk on a bare machine, with a driver in place of a guest."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import kvm_shim
from kvm_shim.virtio.block import Block, BlockConfig, create_block
from kvm_shim.virtio.place import Place
from tests.support.virtio import Driver, Queue

__all__ = ["BAR", "IMAGE_SIZE", "MEMORY", "Disk", "Outcome", "Request", "machine", "pattern"]

MEMORY = 64 << 20
IMAGE_SIZE = 8 << 20
BAR = 0xC000_0000
ECAM = 0xE800_0000
SLOT = 3
ENTRY = 1 << 20
HALT = bytes.fromhex("fa f4 eb fc")
"""cli; hlt; and again."""
RINGS = 8 << 20
BUFFERS = 16 << 20
BUFFERS_SIZE = 4 << 20
"""Of each queue."""


class Request(IntEnum):
    """Types of requests (virtio 1.2, 5.2.6)."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class Outcome(IntEnum):
    """The status byte of a request."""

    OK = 0
    IOERR = 1
    UNSUPP = 2
    NONE = 0xEE
    """What the driver leaves there, and no device writes."""


def pattern(size: int, seed: int = 1) -> bytes:
    """Return bytes that differ from sector to sector."""
    sectors = range((size + 511) // 512)
    return b"".join(struct.pack("<II", seed, sector) * 64 for sector in sectors)[:size]


@contextlib.contextmanager
def machine() -> Iterator[tuple[kvm_shim.Vm, kvm_shim.Device]]:
    """Lend a machine that has memory, a PCI bus and a vCPU that does nothing."""
    with kvm_shim.Vm() as vm:
        vm.add_memory(0, MEMORY)
        vm.create_vcpu(0, 0)
        vm.set_cpuid(0, kvm_shim.supported_cpuid())
        vm.write_memory(ENTRY, HALT)
        boot = kvm_shim.Boot(entry=ENTRY, argument=0, stack=ENTRY, gdt=0x500, page_tables=0x9000)
        vm.enter_pvh(0, boot)
        yield vm, vm.pci(ECAM)


@dataclass
class Chain:
    """A request: where its segments are."""

    readable: list[tuple[int, int]]
    writable: list[tuple[int, int]]
    written: int = -1
    """Bytes the device says it wrote; -1 until the chain is used."""


class Buffers:
    """A queue, and guest memory for the segments of its requests."""

    def __init__(self, queue: Queue, memory: int) -> None:
        self.queue = queue
        self._memory = memory
        self._next = memory
        self._chains: dict[int, Chain] = {}

    def move(self, driver: Driver) -> None:
        """Go on in another machine with the same memory."""
        self.queue = self.queue.moved(driver)

    def room(self, size: int, alignment: int = 16) -> int:
        """Take guest memory for a segment; :meth:`rewind` gives all of it back."""
        address = self._next + alignment - 1 & -alignment
        self._next = address + size
        return address

    def rewind(self) -> None:
        """Use the memory of segments again."""
        self._next = self._memory

    def put(self, data: bytes, alignment: int = 16) -> tuple[int, int]:
        """Put data into guest memory, and return its place and size."""
        address = self.room(len(data), alignment)
        self.queue.vm.write_memory(address, data)
        return address, len(data)

    def add(
        self,
        readable: list[tuple[int, int]],
        writable: list[tuple[int, int]],
        *,
        indirect: bool = False,
    ) -> Chain:
        """Make a chain of segments available."""
        chain = Chain(readable, writable)
        head = self.queue.add(readable, writable, indirect=indirect)
        self._chains[head] = chain
        return chain

    def kick(self) -> None:
        """Notify the device."""
        self.queue.kick()

    def take(self) -> list[Chain]:
        """Return the chains that were used since the last time."""
        return [self._used(*used) for used in iter(self.queue.take, None)]

    def wait(self, count: int = 1) -> list[Chain]:
        """Wait until that many more chains are used."""
        return [self._used(*self.queue.wait(timeout=30.0)) for _ in range(count)]

    def _used(self, head: int, written: int) -> Chain:
        chain = self._chains.pop(head)
        chain.written = written
        return chain

    def data(self, chain: Chain) -> bytes:
        """Return what is in a chain's writable segments."""
        return b"".join(self.queue.vm.read_memory(*segment) for segment in chain.writable)


class Disk:
    """A disk and its driver.

    Args:
        vm: Its machine.
        bus: The machine's PCI bus.
        path: The image.
        direct: Whether to open it with O_DIRECT.
        slot: Its place on the bus.
        config: More of `BlockConfig`.
    """

    def __init__(
        self,
        vm: kvm_shim.Vm,
        bus: kvm_shim.Device,
        path: Path,
        *,
        direct: bool = False,
        slot: int = SLOT,
        **config: Any,
    ) -> None:
        self.vm = vm
        access = os.O_RDONLY if config.get("readonly") else os.O_RDWR
        fd = os.open(path, access | (os.O_DIRECT if direct else 0))
        try:
            place = Place(bus, f"_disk{slot}", slot, BAR + slot * (512 << 10))
            self.block: Block = create_block(vm, place, BlockConfig(fd=fd, **config))
        finally:
            os.close(fd)
        self.size = config.get("queue_size", 128)
        self.count = config.get("num_queues", 1)
        self.driver = Driver(vm, slot, RINGS)
        self._slot = slot
        self.queues: list[Buffers] = []

    @property
    def queue(self) -> Buffers:
        """The first queue."""
        return self.queues[0]

    def start(self, features: int = -1, *, memory: int = 0) -> None:
        """Have the driver take the disk into use, with its memory from `memory` on."""
        self.driver = Driver(self.vm, self._slot, memory + RINGS)
        queues = self.driver.start(features & self.driver.offered, [self.size] * self.count)
        self.queues = [
            Buffers(queue, memory + BUFFERS + index * BUFFERS_SIZE)
            for index, queue in enumerate(queues)
        ]

    def move(self, other: Disk) -> None:
        """Have this disk's driver drive another disk, in another machine, from where it is."""
        other.queues, self.queues = self.queues, []
        for queue in other.queues:
            queue.move(other.driver)

    def submit(
        self,
        kind: int,
        sector: int = 0,
        *,
        data: bytes = b"",
        size: int = 0,
        queue: int = 0,
        alignment: int = 512,
        indirect: bool = False,
    ) -> Chain:
        """Add a request: a header, data to or from the disk, a status."""
        ring = self.queues[queue]
        readable = [ring.put(struct.pack("<IIQ", kind, 0, sector))]
        writable = [ring.put(bytes([Outcome.NONE]))]
        if data:
            readable.append(ring.put(data, alignment))
        if size:
            writable.insert(0, (ring.room(size, alignment), size))
        return ring.add(readable, writable, indirect=indirect)

    def status(self, chain: Chain) -> Outcome:
        """Return the status of a request."""
        address, size = chain.writable[-1]
        return Outcome(self.vm.read_memory(address + size - 1, 1)[0])

    def request(self, kind: int, sector: int = 0, **what: Any) -> Outcome:
        """Make a request by itself, wait, and return its status."""
        queue = self.queues[what.get("queue", 0)]
        queue.rewind()
        chain = self.submit(kind, sector, **what)
        queue.kick()
        [used] = queue.wait()
        assert used is chain
        return self.status(chain)

    def read(self, sector: int, size: int, **what: Any) -> bytes:
        """Read; the request must succeed."""
        queue = self.queues[what.get("queue", 0)]
        queue.rewind()
        chain = self.submit(Request.IN, sector, size=size, **what)
        queue.kick()
        queue.wait()
        assert self.status(chain) is Outcome.OK
        assert chain.written == size + 1
        return queue.data(chain)[:-1]

    def range(self, kind: Request, sector: int, sectors: int, flags: int = 0) -> Outcome:
        """Discard, or write zeroes."""
        return self.request(kind, data=struct.pack("<QII", sector, sectors, flags))

    def counters(self) -> dict[str, int]:
        """Return the disk's counters."""
        return self.block.counters()

    def logged(self, timeout: float = 60.0) -> str:
        """Wait for a line that the disk logs."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            event = self.vm.next_event()
            if event is not None and event.kind is kvm_shim.EventKind.DEVICE_LOG:
                return event.text
            time.sleep(0.001)
        raise AssertionError("nothing was logged")
