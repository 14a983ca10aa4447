# SPDX-License-Identifier: Apache-2.0
"""A guest's side of virtio-vsock in Python, packet by packet."""

from __future__ import annotations

import contextlib
import copy
import socket
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

import kvm_shim
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.vsock import create_vsock
from tests.support.virtio import Driver, Queue

__all__ = [
    "BOTH",
    "CREDIT",
    "HEADER_SIZE",
    "MEMORY",
    "Op",
    "Packet",
    "Ring",
    "VsockGuest",
    "VsockVm",
    "read_exactly",
]

MEMORY: Final = 48 << 20
HEADER_SIZE: Final = 44
CREDIT: Final = 256 << 10
"""What the device lets the guest send unread."""
BOTH: Final = 3
"""Both flags of a shutdown: receive 1, send 2."""

_HEADER = struct.Struct("<QQIIIHHIII")
_HOST = 2
_STREAM = 1
_EVENT_IDX = 1 << 29
_ECAM, _BAR, _SLOT = 0xE8000000, 0xC0000000, 3
_DRIVER = 0x100000
"""Where the driver's memory is: the rings and the buffers."""
_TIMEOUT = 20.0


class Op:
    """Operations (virtio 1.2, 5.10.6)."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Packet(NamedTuple):
    """A packet, its fields in the order of its header."""

    src_cid: int = 0
    dst_cid: int = _HOST
    src_port: int = 0
    dst_port: int = 0
    len: int = 0
    type: int = _STREAM
    op: int = 0
    flags: int = 0
    buf_alloc: int = 0
    fwd_cnt: int = 0
    payload: bytes = b""

    def header(self) -> bytes:
        """Return the bytes of the header."""
        return _HEADER.pack(*self[:-1])


class VsockVm:
    """A VM without a vCPU at work, with RAM, a PCI bus and a vsock device.

    Args:
        path: Where the listener is, and servers are with a suffix.
        cid: The guest's address.
    """

    def __init__(self, path: Path, cid: int = 42) -> None:
        self.path = path
        self.cid = cid
        self.listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.listener.bind(str(path))
        self.listener.listen(2048)
        self.vm = kvm_shim.Vm()
        self.vm.add_memory(0, MEMORY)
        place = Place(self.vm.pci(_ECAM), "vsock0", _SLOT, _BAR)
        self.device = create_vsock(self.vm, place, cid, self.listener.fileno(), str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.vm.close()
        self.listener.close()

    def run_idle_vcpu(self) -> None:
        """Have something to pause."""
        self.vm.write_memory(0x1000, b"\xf4\xeb\xfd")  # hlt; jmp back to it
        self.vm.create_vcpu(0, 0)
        self.vm.set_cpuid(0, kvm_shim.supported_cpuid())
        self.vm.enter_linux64(0, kvm_shim.Boot(0x1000, 0, 0x8FF0, 0x500, 0x9000))
        self.vm.start()
        self.vm.resume()

    def client(self, line: bytes = b"") -> socket.socket:
        """Connect to the listener, and say something."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(_TIMEOUT)
        client.connect(str(self.path))
        with contextlib.suppress(BrokenPipeError):  # it was refused before it said anything
            client.sendall(line)
        return client

    def server(self, port: int, backlog: int = 128) -> socket.socket:
        """Listen where a guest's connection to the port goes."""
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(_TIMEOUT)
        server.bind(f"{self.path}_{port}")
        server.listen(backlog)
        return server

    def counter(self, name: str) -> int:
        """Return one of the device's counters."""
        return self.device.counters()[name]


class Ring:
    """A queue whose driver has a buffer for each of its descriptors.

    Args:
        driver: The device's driver.
        queue: One of its queues.
        buffer_size: Bytes of each buffer.
    """

    def __init__(self, driver: Driver, queue: Queue, buffer_size: int) -> None:
        self._queue = queue
        self._buffer_size = buffer_size
        memory = driver.allocate(queue.size * buffer_size)
        self._free = [memory + index * buffer_size for index in range(queue.size)]
        self._chains: dict[int, list[int]] = {}

    def add_writable(self, size: int | None = None) -> None:
        """Make an empty buffer available."""
        buffer = self._free.pop()
        head = self._queue.add(writable=[(buffer, self._buffer_size if size is None else size)])
        self._chains[head] = [buffer]

    def add_readable(self, *parts: bytes) -> None:
        """Make a chain with a buffer for each part available."""
        buffers = [self._free.pop() for _ in parts]
        for buffer, part in zip(buffers, parts, strict=True):
            assert len(part) <= self._buffer_size
            self._queue.vm.write_memory(buffer, part)
        sizes = map(len, parts)
        self._chains[self._queue.add(readable=zip(buffers, sizes, strict=True))] = buffers

    def room(self) -> int:
        """Return how many buffers are free."""
        return len(self._free)

    def used_index(self) -> int:
        """Return how many chains came back, modulo 2 to the 16."""
        return self._queue.used_index()

    def take_used(self) -> bytes | None:
        """Return what the device wrote into the next chain that came back, if one did."""
        used = self._queue.take()
        if used is None:
            return None
        head, written = used
        buffers = self._chains.pop(head)
        self._free.extend(buffers)
        return self._queue.vm.read_memory(buffers[0], written) if written else b""

    def kick(self) -> None:
        """Notify the device."""
        self._queue.kick()


class VsockGuest:
    """The guest's driver and the connections it knows.

    Args:
        machine: The VM.
        buffers: How many receive buffers the guest keeps available.
        buffer_size: Bytes of each, header included.
    """

    def __init__(
        self,
        machine: VsockVm,
        *,
        buffers: int = 128,
        buffer_size: int = 4096,
        event_idx: bool = True,
    ) -> None:
        self.machine = machine
        self.cid = machine.cid
        self.driver = Driver(machine.vm, _SLOT, _DRIVER)
        queues = self.driver.start(_EVENT_IDX if event_idx else 0, [256, 256, 8])
        self.rx, self.tx, self.event = (
            Ring(self.driver, queue, size)
            for queue, size in zip(queues, (buffer_size, 65536, 64), strict=True)
        )
        assert self.driver.allocate(0) <= MEMORY
        self.give_buffers(buffers)

    def move(self, machine: VsockVm) -> VsockGuest:
        """Return this guest as it is in a VM that gets its memory and its device's state."""
        own = {id(self.machine): machine, id(self.machine.vm): machine.vm}
        return copy.deepcopy(self, own)

    def give_buffers(self, count: int) -> None:
        """Make more receive buffers available."""
        for _ in range(count):
            self.rx.add_writable()
        self.rx.kick()

    def give_event_buffer(self) -> None:
        """Make a buffer for an event available."""
        self.event.add_writable(4)
        self.event.kick()

    def send_packet(self, packet: Packet) -> None:
        """Send a packet as it is, once there is room for it."""
        deadline = time.monotonic() + _TIMEOUT
        while self.tx.room() < 2:
            if self.tx.take_used() is None:
                assert time.monotonic() < deadline
                time.sleep(0.0005)
        parts = [packet.header(), packet.payload] if packet.payload else [packet.header()]
        self.tx.add_readable(*parts)
        self.tx.kick()

    def send(self, op: int, ports: tuple[int, int], payload: bytes = b"", **fields: int) -> None:
        """Send a packet from the guest's port to the host's, plenty of credit in it."""
        guest_port, host_port = ports
        packet = Packet(
            src_cid=self.cid,
            src_port=guest_port,
            dst_port=host_port,
            len=len(payload),
            op=op,
            buf_alloc=1 << 30,
            payload=payload,
        )
        self.send_packet(packet._replace(**fields))

    def poll(self, *, refill: bool = True) -> Packet | None:
        """Take the next packet, if there is one."""
        data = self.rx.take_used()
        if data is None:
            return None
        if refill:
            self.give_buffers(1)
        packet = Packet(*_HEADER.unpack(data[:HEADER_SIZE]), data[HEADER_SIZE:])
        assert (packet.src_cid, packet.dst_cid) == (_HOST, self.cid)
        assert packet.len == len(packet.payload)
        return packet

    def receive(self, *, refill: bool = True) -> Packet:
        """Wait for the next packet."""
        deadline = time.monotonic() + _TIMEOUT
        while (packet := self.poll(refill=refill)) is None:
            assert time.monotonic() < deadline, "no packet"
            time.sleep(0.0002)
        return packet

    def expect(self, op: int, ports: tuple[int, int] | None = None) -> Packet:
        """Wait for the next packet that does not only tell credit, and check it."""
        while (packet := self.receive()).op == Op.CREDIT_UPDATE != op:
            pass
        assert packet.op == op, packet
        assert ports in (None, (packet.dst_port, packet.src_port)), packet
        return packet

    def read(self, ports: tuple[int, int], size: int) -> bytes:
        """Wait for so many bytes of a connection."""
        data = b""
        while len(data) < size:
            data += self.expect(Op.RW, ports).payload
        assert len(data) == size
        return data

    def accept(self, client: socket.socket) -> tuple[int, int]:
        """Answer the request that a client of the host brought about; return the ports."""
        request = self.expect(Op.REQUEST)
        ports = (request.dst_port, request.src_port)
        self.send(Op.RESPONSE, ports)
        assert read_exactly(client, len(f"OK {ports[1]}\n")) == f"OK {ports[1]}\n".encode()
        return ports

    def connect(self, server: socket.socket, ports: tuple[int, int]) -> socket.socket:
        """Connect to a server of the host; return the server's end."""
        self.send(Op.REQUEST, ports)
        self.expect(Op.RESPONSE, ports)
        peer, _ = server.accept()
        peer.settimeout(_TIMEOUT)
        return peer


def read_exactly(peer: socket.socket, size: int) -> bytes:
    """Read so many bytes from a socket with a timeout; fewer if the end comes first."""
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            break
        data += part
    return data
