# SPDX-License-Identifier: Apache-2.0
"""A machine with a network device, its driver in the test's hands."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from typing import Self

import kvm_shim
from kvm_shim.virtio.net import NetConfig, create_net
from kvm_shim.virtio.place import Place
from tests.support.machines import cpuid
from tests.support.network import ECHO, Frame
from tests.support.virtio import Driver, Queue

__all__ = ["HEADER", "HOST", "MAC", "NetMachine", "checksum", "frame", "tcp_frame"]

HEADER = 12
MAC = bytes.fromhex("525400c0ffee")
HOST = bytes.fromhex("525400000001")
MEMORY = 16 << 20
SLOT = 3
BAR = 0xC000_0000
_BUFFERS = 4 << 20
"""Where in RAM the receive buffers are; the rings are below."""


def frame(payload: bytes, *, to: bytes = MAC, of: bytes = HOST) -> Frame:
    """Return a frame, to the guest if nothing else is said."""
    return Frame(to + of + ECHO.to_bytes(2, "big") + payload)


def checksum(data: bytes) -> int:
    """Return the sum of the Internet's checksums, not inverted (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp_frame(size: int, mss: int = 1448, *, to: bytes = MAC, of: bytes = HOST) -> Frame:
    """Return a frame of TCP that is to be segmented, its checksum left to be computed."""
    payload = os.urandom(size)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + size, 1, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + (0xFFFF ^ checksum(ip)).to_bytes(2, "big") + ip[12:]
    pseudo = checksum(addresses + struct.pack(">HH", 6, 20 + size))
    tcp = struct.pack(">HHIIBBHHH", 1000, 2000, 1, 1, 0x50, 0x10, 1024, pseudo, 0)
    return Frame(to + of + b"\x08\x00" + ip + tcp + payload, 1, 1, 54, mss, 34, 16)


class NetMachine:
    """A VM of memory and a network device.

    Args:
        taps: The queues of its tap.
        features: What the driver takes of what is offered.
        queue_size: Of the device and the driver.
        config: More of the device's configuration.
    """

    def __init__(
        self, taps: Sequence[int], features: int = 0, *, queue_size: int = 64, **config: object
    ) -> None:
        self.vm = kvm_shim.Vm()
        with contextlib.ExitStack() as stack:
            stack.callback(self.vm.close)
            self.vm.add_memory(0, MEMORY)
            place = Place(self.vm.pci(0xE800_0000), "_net1", SLOT, BAR)
            for name in ("rx_limiter", "tx_limiter"):
                if callable(make := config.get(name)):
                    config[name] = make(self.vm)
            parts = NetConfig(taps=taps, mac=MAC, queue_size=queue_size, **config)  # type: ignore[arg-type]
            self.device = create_net(self.vm, place, parts)
            self.driver = Driver(self.vm, SLOT, 0x10_0000)
            self.features = features
            self.queue_size = queue_size
            self.pairs = len(taps)
            self.queues: list[Queue] = []
            self._buffers: dict[tuple[int, int], tuple[int, int]] = {}
            self._next_buffer = _BUFFERS
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the machine."""
        self.vm.close()

    def run(self) -> Self:
        """Let the VM run, with a vCPU that sleeps: now it can be paused."""
        self.vm.create_vcpu(0, 0)
        self.vm.set_cpuid(0, cpuid(kvm_shim.supported_cpuid()))
        self.vm.write_memory(0x1000, b"\xfa\xf4\xeb\xfd")  # cli; hlt; again
        self.vm.enter_linux64(0, kvm_shim.Boot(0x1000, 0, 0x8FF0, 0x500, 0x9000))
        self.vm.start()
        self.vm.resume()
        return self

    def start(self, *, buffers: int = 0, size: int = 2048) -> Self:
        """Go through the driver's start, with receive buffers on the first queue."""
        sizes = [self.queue_size] * (2 * self.pairs) + [64]
        self.queues = self.driver.start(self.features, sizes)
        self.fill(buffers, size)
        return self

    def fill(self, buffers: int, size: int, *, pair: int = 0) -> None:
        """Give the device buffers to receive into."""
        for _ in range(buffers):
            self.give((self._next_buffer, size), pair=pair)
            self._next_buffer += size
            assert self._next_buffer <= MEMORY
        self.queues[2 * pair].kick()

    def give(self, *segments: tuple[int, int], pair: int = 0) -> None:
        """Give the device one buffer."""
        head = self.queues[2 * pair].add(writable=segments)
        self._buffers[pair, head] = segments[0]

    def receive(self, *, pair: int = 0, timeout: float = 60.0, refill: bool = True) -> Frame:
        """Return what the device received next, and give it the buffers again."""
        queue = self.queues[2 * pair]
        data = b""
        used = []
        left = 1
        while left:
            head, length = queue.wait(timeout)
            used.append(self._buffers.pop((pair, head)))
            data += self.vm.read_memory(used[-1][0], length)
            if len(used) == 1:
                (left,) = struct.unpack_from("<H", data, 10)
            left -= 1
        for buffer in used if refill else ():
            self.give(buffer, pair=pair)
        if refill:
            queue.kick()
        return Frame.parse(data, HEADER)

    def send(self, data: bytes, *, cuts: Sequence[int] = (), pair: int = 0) -> None:
        """Send bytes as they are, header and all, in segments that end at the cuts."""
        queue = self.queues[2 * pair + 1]
        self.vm.write_memory(0x30_0000, data)
        ends = [*cuts, len(data)]
        starts = [0, *cuts]
        queue.add(
            readable=[
                (0x30_0000 + start, end - start) for start, end in zip(starts, ends, strict=True)
            ]
        )
        queue.kick()
        queue.wait()

    def send_frame(self, frame: Frame, *, cuts: Sequence[int] = (), pair: int = 0) -> None:
        """Send a frame with its header."""
        self.send(frame.header + bytes(2) + frame.data, cuts=cuts, pair=pair)

    def control(self, kind: int, command: int, data: bytes = b"", *, split: bool = True) -> int:
        """Run a command of the control queue, and return what the device answers."""
        queue = self.queues[-1]
        request, answer = 0x31_0000, 0x32_0000
        self.vm.write_memory(request, bytes([kind, command]) + data)
        self.vm.write_memory(answer, b"\xff")
        readable = [(request, 2), (request + 2, len(data))] if split and data else []
        queue.add(readable=readable or [(request, 2 + len(data))], writable=[(answer, 1)])
        queue.kick()
        queue.wait()
        return self.vm.read_memory(answer, 1)[0]

    def counters(self) -> dict[str, int]:
        """Return the device's counters."""
        return self.device.counters()
