# SPDX-License-Identifier: Apache-2.0
"""A network of a test's own, and the stations on it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple, Self

__all__ = ["ECHO", "Frame", "Station", "Taps", "namespace_problem", "own_network"]

_CLONE_NEWNET = 0x4000_0000
_PACKET_VNET_HDR = 15
_SOL_PACKET = 263
_TUNSETIFF = 0x4004_54CA
_RTM_DELLINK, _REQUEST_ACK = 17, 5
_TAP, _NO_PI, _VNET_HDR, _MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100

ECHO = 0x88B5
"""An EtherType for local experiments (IEEE 802)."""

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class own_network:  # noqa: N801 - it is used as a function is
    """Have this thread, and what it starts, in a network namespace without anything."""

    def __enter__(self) -> None:
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
        except BaseException:
            os.close(self._before)
            raise
        # Nothing but what the test sends is to be on the wire.
        for scope in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")

    def __exit__(self, *_: object) -> None:
        try:
            _checked(_libc.setns(self._before, _CLONE_NEWNET))
        finally:
            os.close(self._before)


def namespace_problem() -> str | None:
    """Say why there can be no network of one's own here."""
    try:
        with own_network():
            os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as ex:
        return f"needs /dev/net/tun and CAP_NET_ADMIN: {ex.strerror}"
    return None


class Taps:
    """The queues of a tap interface that exists as long as they are open.

    Args:
        name: Its name.
        queues: How many.
    """

    def __init__(self, name: str, queues: int = 1) -> None:
        self.name = name
        self.descriptors: list[int] = []
        flags = _TAP | _NO_PI | _VNET_HDR | (_MULTI_QUEUE if queues > 1 else 0)
        for _ in range(queues):
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.descriptors.append(descriptor)
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        self.set_up(up=True)

    def set_up(self, *, up: bool) -> None:
        """Bring the interface up or down."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH22x", self.name.encode(), int(up))
            fcntl.ioctl(control, 0x8914, request)

    def set_mtu(self, mtu: int) -> None:
        """Let it carry longer frames."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8922, struct.pack("16si20x", self.name.encode(), mtu))

    def delete(self) -> None:
        """Do as ``ip link delete`` does: the queues stay open, the interface is gone."""
        link = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(self.name), 0, 0)
        request = struct.pack("=IHHII", 16 + len(link), _RTM_DELLINK, _REQUEST_ACK, 1, 0) + link
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
            route.send(request)
            assert struct.unpack_from("=i", route.recv(4096), 16) == (0,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the queues, and the interface with them."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class Frame(NamedTuple):
    """A frame with what the virtio header says of it."""

    data: bytes
    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0

    HEADER = struct.Struct("<BBHHHH")

    @property
    def header(self) -> bytes:
        """Its virtio header, as on a packet socket: 10 bytes."""
        return self.HEADER.pack(*self[1:])

    @classmethod
    def parse(cls, received: bytes, header_size: int = 10) -> Frame:
        """Take apart what begins with such a header."""
        return cls(received[header_size:], *cls.HEADER.unpack_from(received))


class Station:
    """A packet socket on an interface: it sends and receives whole frames.

    Args:
        interface: Its name.
        protocol: The EtherType to receive.
    """

    def __init__(self, interface: str, protocol: int = ECHO) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._socket.bind((interface, protocol))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the network."""
        self._socket.close()

    def send(self, frame: Frame) -> None:
        """Put a frame on the wire."""
        self._socket.send(frame.header + frame.data)

    def receive(self, timeout: float = 60.0) -> Frame:
        """Return the next frame that came in."""
        deadline = time.monotonic() + timeout
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            received, address = self._socket.recvfrom(1 << 17)
            if address[2] != socket.PACKET_OUTGOING:
                return Frame.parse(received)
        raise AssertionError(f"no frame in {timeout} s")

    def silent(self, time_s: float = 0.2) -> bool:
        """Whether nothing comes in for a while."""
        try:
            self.receive(time_s)
        except AssertionError:
            return True
        return False
