# SPDX-License-Identifier: Apache-2.0
"""A virtio driver on the test's side of the bus: it does what a guest's driver does.

It reaches the device as a vCPU would and has its rings in guest RAM, so a test can put
anything into them. Interrupts are not taken: the driver looks at the used ring.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence

import kvm_shim
from kvm_shim import Space
from tests.support.ports import Ports

__all__ = ["Driver", "Queue"]

_ECAM = 0xE800_0000
_PAGE = 4096

_COMMON, _NOTIFY, _ISR, _DEVICE = 1, 2, 3, 4
_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK, _NEEDS_RESET = 1, 2, 4, 8, 0x40
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT = 1
VERSION_1 = 1 << 32


class Queue:
    """A split virtqueue as its driver sees it.

    Args:
        driver: The device's driver.
        index: Its number.
        size: Entries.
    """

    def __init__(self, driver: Driver, index: int, size: int) -> None:
        self._driver = driver
        self._vm = driver.vm
        self.index = index
        self.size = size
        self.descriptors = driver.allocate(16 * size)
        self.available = driver.allocate(6 + 2 * size)
        self.used = driver.allocate(6 + 8 * size)
        self._free = list(range(size))
        self._chains: dict[int, list[int]] = {}
        self._added = self._seen = 0

    @property
    def vm(self) -> kvm_shim.Vm:
        """The machine."""
        return self._vm

    def add(
        self,
        readable: Iterable[tuple[int, int]] = (),
        writable: Iterable[tuple[int, int]] = (),
        *,
        indirect: bool = False,
    ) -> int:
        """Make buffers (address, length) available as one chain, and return its head."""
        buffers = [(*each, 0) for each in readable] + [(*each, _WRITE) for each in writable]
        if indirect:
            table = self._driver.allocate(16 * len(buffers))
            for index, (address, length, flags) in enumerate(buffers):
                link = _NEXT if index + 1 < len(buffers) else 0
                entry = struct.pack("<QIHH", address, length, flags | link, index + 1)
                self._vm.write_memory(table + 16 * index, entry)
            buffers = [(table, 16 * len(buffers), _INDIRECT)]
        heads = [self._free.pop(0) for _ in buffers]
        for head, following, (address, length, flags) in zip(
            heads, [*heads[1:], None], buffers, strict=True
        ):
            link = 0 if following is None else _NEXT
            self.write_descriptor(head, address, length, flags | link, following or 0)
        self._chains[heads[0]] = heads
        self.offer(heads[0])
        return heads[0]

    def write_descriptor(
        self, index: int, address: int, length: int, flags: int, following: int = 0
    ) -> None:
        """Write an entry of the descriptor table as it stands."""
        entry = struct.pack("<QIHH", address, length, flags, following)
        self._vm.write_memory(self.descriptors + 16 * index, entry)

    def offer(self, head: int, by: int = 1) -> None:
        """Put a head into the available ring and move its index."""
        slot = self.available + 4 + 2 * (self._added % self.size)
        self._vm.write_memory(slot, struct.pack("<H", head))
        self._added = (self._added + by) & 0xFFFF
        self._vm.write_memory(self.available + 2, struct.pack("<H", self._added))

    def kick(self) -> None:
        """Ring the doorbell."""
        self._driver.notify(self.index)

    def used_index(self) -> int:
        """Return how many chains were used, modulo 2 to the 16."""
        return int.from_bytes(self._vm.read_memory(self.used + 2, 2), "little")

    def take(self) -> tuple[int, int] | None:
        """Return head and length of the next used chain, if there is one."""
        if self.used_index() == self._seen:
            return None
        entry = self.used + 4 + 8 * (self._seen % self.size)
        head, length = struct.unpack("<II", self._vm.read_memory(entry, 8))
        self._seen = (self._seen + 1) & 0xFFFF
        self._free.extend(self._chains.pop(head))
        return head, length

    def wait(self, timeout: float = 60.0) -> tuple[int, int]:
        """Return head and length of the next used chain."""
        deadline = time.monotonic() + timeout
        while (used := self.take()) is None:
            assert time.monotonic() < deadline, f"queue {self.index}: nothing used"
            time.sleep(0.0002)
        return used

    def moved(self, other: Driver) -> Queue:
        """Return the same queue in the hands of another machine's driver."""
        queue = object.__new__(Queue)
        queue.__dict__.update(self.__dict__)
        queue._driver = other
        queue._vm = other.vm
        return queue


class Driver:
    """The driver of one virtio device on PCI bus 0.

    Args:
        vm: The VM.
        slot: The device's number on the bus.
        memory: Guest RAM for rings and buffers, from this address on.
    """

    def __init__(self, vm: kvm_shim.Vm, slot: int, memory: int) -> None:
        self.vm = vm
        self._memory = memory
        self._pci = Ports(vm, _ECAM + (slot << 15), Space.MMIO)
        self._pci.write(0x04, 0x06, 2)  # memory, bus master
        self.bar = self._pci.read(0x10, 4) & ~0xF | self._pci.read(0x14, 4) << 32
        self._structures = dict(self._capabilities())
        self._common = Ports(vm, self._structures[_COMMON][0], Space.MMIO)
        self.config = Ports(vm, self._structures[_DEVICE][0], Space.MMIO)

    def _capabilities(self) -> Iterable[tuple[int, tuple[int, int]]]:
        at = self._pci.read(0x34)
        while at:
            if self._pci.read(at) == 0x09:
                kind = self._pci.read(at + 3)
                offset = self._pci.read(at + 8, 4)
                multiplier = self._pci.read(at + 16, 4) if kind == _NOTIFY else 0
                yield kind, (self.bar + offset, multiplier)
            at = self._pci.read(at + 1)

    def allocate(self, size: int) -> int:
        """Return the address of so many bytes of RAM, on a page boundary."""
        address = self._memory
        self._memory += -(-size // _PAGE) * _PAGE
        return address

    @property
    def status(self) -> int:
        """The device status."""
        return self._common.read(0x14)

    @status.setter
    def status(self, value: int) -> None:
        self._common.write(0x14, value)

    @property
    def needs_reset(self) -> bool:
        """Whether the device gave up on its driver."""
        return bool(self.status & _NEEDS_RESET)

    @property
    def offered(self) -> int:
        """The features of the device."""
        words = []
        for select in range(2):
            self._common.write(0x00, select, 4)
            words.append(self._common.read(0x04, 4))
        return words[0] | words[1] << 32

    def reset(self) -> None:
        """Reset the device."""
        self.status = 0
        assert self.status == 0

    def begin(self, features: int) -> None:
        """Reset the device and settle on features."""
        self.reset()
        self.status = _ACKNOWLEDGE
        self.status = _ACKNOWLEDGE | _DRIVER
        features |= VERSION_1
        for select in range(2):
            self._common.write(0x08, select, 4)
            self._common.write(0x0C, features >> 32 * select & 0xFFFF_FFFF, 4)
        self.status = _ACKNOWLEDGE | _DRIVER | _FEATURES_OK
        assert self.status & _FEATURES_OK

    def queue(self, index: int, size: int) -> Queue:
        """Set up a queue."""
        queue = Queue(self, index, size)
        self.vm.write_memory(queue.available, struct.pack("<HH", _NO_INTERRUPT, 0))
        self.vm.write_memory(queue.used, bytes(4))
        self._common.write(0x16, index, 2)
        self._common.write(0x18, size, 2)
        for register, address in (
            (0x20, queue.descriptors),
            (0x28, queue.available),
            (0x30, queue.used),
        ):
            self._common.write(register, address & 0xFFFF_FFFF, 4)
            self._common.write(register + 4, address >> 32, 4)
        self._common.write(0x1C, 1, 2)
        return queue

    def ready(self) -> None:
        """Let the device work."""
        self.status = _ACKNOWLEDGE | _DRIVER | _FEATURES_OK | _DRIVER_OK

    def start(self, features: int, sizes: Sequence[int]) -> list[Queue]:
        """Go through the whole of it, with all queues in order."""
        self.begin(features)
        queues = [self.queue(index, size) for index, size in enumerate(sizes)]
        self.ready()
        return queues

    def notify(self, queue: int) -> None:
        """Ring a doorbell."""
        base, multiplier = self._structures[_NOTIFY]
        assert self.vm.bus_write(Space.MMIO, base + queue * multiplier, queue, 2)
