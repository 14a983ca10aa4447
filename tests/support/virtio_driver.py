# SPDX-License-Identifier: Apache-2.0
"""A virtio driver in Python: it reaches the device as a vCPU does, and its rings in RAM.

It obeys no rule that a test does not want obeyed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

import kvm_shim
from kvm_shim import Space
from tests.support.ports import Ports

__all__ = ["NEEDS_RESET", "Driver", "Queue", "wait_until"]

NEEDS_RESET = 0x40

_DRIVER, _FEATURES_OK, _DRIVER_OK = 0x03, 0x08, 0x04
_VERSION_1, _EVENT_IDX = 1 << 32, 1 << 29
_NEXT, _WRITE = 1, 2
_TIMEOUT = 20.0

_DEVICE_FEATURES, _DRIVER_FEATURES = 0x00, 0x08
_STATUS = 0x14
_QUEUE_SELECT, _QUEUE_SIZE, _QUEUE_ENABLE = 0x16, 0x18, 0x1C
_QUEUE_RINGS = (0x20, 0x28, 0x30)
_DEVICE_CONFIG, _NOTIFY = 0x4000, 0x6000


def wait_until(condition: Callable[[], bool], timeout: float = _TIMEOUT) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.0005)


class Queue:
    """A split virtqueue in guest RAM, each descriptor with a buffer of its own.

    Args:
        vm: The VM.
        base: Where the rings are, and the buffers after them.
        size: Entries.
        buffer_size: Bytes of each buffer.
    """

    def __init__(self, vm: kvm_shim.Vm, base: int, size: int, buffer_size: int) -> None:
        self._vm = vm
        self.size = size
        self.buffer_size = buffer_size
        self.desc = base
        self.avail = base + 16 * size
        self.used = self.avail + (8 + 2 * size + 4095) // 4096 * 4096
        self._buffers = self.used + (8 + 8 * size + 4095) // 4096 * 4096
        self.end = self._buffers + size * buffer_size
        self._next_avail = 0
        self._next_used = 0
        self._free = list(range(size))
        vm.write_memory(base, bytes(self.end - base))

    def buffer(self, index: int) -> int:
        """Return the address of a descriptor's buffer."""
        return self._buffers + index * self.buffer_size

    def describe(self, index: int, address: int, size: int, flags: int, following: int = 0) -> None:
        """Write a descriptor."""
        entry = struct.pack("<QIHH", address, size, flags, following)
        self._vm.write_memory(self.desc + 16 * index, entry)

    def offer(self, head: int) -> None:
        """Make a chain available."""
        slot = self._next_avail % self.size
        self._vm.write_memory(self.avail + 4 + 2 * slot, struct.pack("<H", head))
        self._next_avail = (self._next_avail + 1) & 0xFFFF
        self._vm.write_memory(self.avail + 2, struct.pack("<H", self._next_avail))

    def add_writable(self, size: int | None = None) -> None:
        """Make an empty buffer available."""
        head = self._free.pop()
        self.describe(head, self.buffer(head), self.buffer_size if size is None else size, _WRITE)
        self.offer(head)

    def add_readable(self, *parts: bytes) -> None:
        """Make a chain with a buffer for each part available."""
        chain = [self._free.pop() for _ in parts]
        for index, part in enumerate(parts):
            assert len(part) <= self.buffer_size
            self._vm.write_memory(self.buffer(chain[index]), part)
            last = index == len(parts) - 1
            following = 0 if last else chain[index + 1]
            self.describe(
                chain[index], self.buffer(chain[index]), len(part), 0 if last else _NEXT, following
            )
        self.offer(chain[0])

    def room(self) -> int:
        """Return how many descriptors are free."""
        return len(self._free)

    def used_index(self) -> int:
        """Return how many chains came back, modulo 2 to the 16."""
        return int.from_bytes(self._vm.read_memory(self.used + 2, 2), "little")

    def take_used(self) -> bytes | None:
        """Return what the device wrote into the next chain that came back, if one did."""
        if self.used_index() == self._next_used:
            return None
        slot = self._next_used % self.size
        head, written = struct.unpack("<II", self._vm.read_memory(self.used + 4 + 8 * slot, 8))
        self._next_used = (self._next_used + 1) & 0xFFFF
        data = self._vm.read_memory(self.buffer(head), written) if written else b""
        self._free.append(head)
        while True:
            _, _, flags, head = struct.unpack(
                "<QIHH", self._vm.read_memory(self.desc + 16 * head, 16)
            )
            if not flags & _NEXT:
                return data
            self._free.append(head)


class Driver:
    """The driver of a device whose BAR 0 is where it was placed.

    Args:
        vm: The VM, with PCI configuration space at `ecam`.
        ecam: Where that is.
        slot: The device's number on the bus.
        bar: Its BAR.
    """

    def __init__(self, vm: kvm_shim.Vm, ecam: int, slot: int, bar: int) -> None:
        self._vm = vm
        self.registers = Ports(vm, bar, Space.MMIO)
        Ports(vm, ecam + (slot << 15), Space.MMIO).write(4, 0x06, 2)  # memory, bus master

    @property
    def status(self) -> int:
        """The device's status."""
        return self.registers.read(_STATUS)

    def config(self, offset: int, size: int) -> int:
        """Read from the device's configuration."""
        return self.registers.read(_DEVICE_CONFIG + offset, size)

    def reset(self) -> None:
        """Reset the device."""
        self.registers.write(_STATUS, 0)
        assert self.status == 0

    def start(self, queues: Sequence[Queue], *, event_idx: bool = False) -> None:
        """Reset the device and bring it up with these queues."""
        self.reset()
        self.registers.write(_STATUS, _DRIVER)
        features = _VERSION_1 | (_EVENT_IDX if event_idx else 0)
        for select in (0, 1):
            self.registers.write(_DRIVER_FEATURES, select, 4)
            self.registers.write(_DRIVER_FEATURES + 4, features >> 32 * select & 0xFFFFFFFF, 4)
        self.registers.write(_STATUS, _DRIVER | _FEATURES_OK)
        assert self.status & _FEATURES_OK
        for index, queue in enumerate(queues):
            self.registers.write(_QUEUE_SELECT, index, 2)
            self.registers.write(_QUEUE_SIZE, queue.size, 2)
            for register, address in zip(
                _QUEUE_RINGS, (queue.desc, queue.avail, queue.used), strict=True
            ):
                self.registers.write(register, address & 0xFFFFFFFF, 4)
                self.registers.write(register + 4, address >> 32, 4)
            self.registers.write(_QUEUE_ENABLE, 1, 2)
        self.registers.write(_STATUS, _DRIVER | _FEATURES_OK | _DRIVER_OK)

    def kick(self, index: int) -> None:
        """Notify the device of a queue."""
        self.registers.write(_NOTIFY + 4 * index, index, 2)
