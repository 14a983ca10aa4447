# SPDX-License-Identifier: Apache-2.0
"""Tap interfaces: the host's end of a guest's network device."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ipc_protocol.errors import VmFailure
from vmm_worker.devices.interface import Interface

if TYPE_CHECKING:
    from ipc_protocol.config_devices import NetConfig

__all__ = ["TUN", "Tap", "mac_bytes", "set_up"]

TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x2
_IFF_MULTI_QUEUE: Final = 0x100
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_REQUEST: Final = struct.Struct("=16sH22x")  # struct ifreq
_TEMPLATE: Final = "vmtap%d"
_WAYS_OUT: Final = {
    errno.EPERM: "; run velum-vmm with CAP_NET_ADMIN, or prepare the interface with 'ip link' "
    "and 'ip address'",
    errno.EAFNOSUPPORT: ", as velum-vmm may use no internet socket; leave it out, and prepare the "
    "interface with 'ip address'",
}
"""Of a setting that the process may not make."""


class Tap:
    """A tap interface with its queues open.

    An interface that is not there is made, and is gone when its last queue is closed. One
    that is there (``ip tuntap add NAME mode tap``) stays.

    Args:
        name: Its name; ``None`` for the first free ``vmtapN``.
        queues: How many.
        pointer: The field that names it, for errors.
    """

    def __init__(self, name: str | None, queues: int, pointer: str) -> None:
        self._pointer = pointer
        self.descriptors: tuple[int, ...] = ()
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            if name is not None:
                self._refuse_shared(name)
            try:
                self.interface = self._open_first(name or _TEMPLATE, queues)
                while len(self.descriptors) < queues:
                    self._open_queue(self.interface.name, _IFF_MULTI_QUEUE)
            except OSError as ex:
                raise self._failure(name or _TEMPLATE, queues, ex) from ex
            stack.pop_all()

    def close(self) -> None:
        """Close the queues; again is harmless."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)

    @contextlib.contextmanager
    def setting(self, field: str, value: object) -> Iterator[Interface]:
        """Lend the interface for a setting that a field of the configuration asks for."""
        try:
            yield self.interface
        except OSError as ex:
            pointer = f"{self._pointer.rpartition('/')[0]}/{field}"
            way_out = _WAYS_OUT.get(ex.errno or 0, "")
            message = f"cannot be set to {value} on {self.interface.name}{way_out}"
            raise _failed(pointer, f"{field} {message}", ex) from ex

    def _open_first(self, name: str, queues: int) -> Interface:
        flags = _IFF_MULTI_QUEUE if queues > 1 else 0
        try:
            return Interface(self._open_queue(name, flags))
        except OSError as ex:
            # An interface for many queues can serve one as well, but only by its right name.
            if ex.errno != errno.EINVAL or flags:
                raise
        return Interface(self._open_queue(name, _IFF_MULTI_QUEUE))

    def _open_queue(self, name: str, flags: int) -> str:
        """Open one queue more, and return the interface's name."""
        descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags |= _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
            answer = fcntl.ioctl(descriptor, _TUNSETIFF, _REQUEST.pack(name.encode(), flags))
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptors += (descriptor,)
        found: bytes = _REQUEST.unpack(answer)[0]
        return found.rstrip(b"\0").decode()

    def _refuse_shared(self, name: str) -> None:
        """Refuse an interface that another process serves.

        The kernel does so itself only where there is a single queue; of many, each of the
        two would get some of the frames.
        """
        interface = Interface(name)
        if interface.exists and interface.connected:
            raise self._failure(name, 1, OSError(errno.EBUSY, os.strerror(errno.EBUSY)))

    def _failure(self, name: str, queues: int, ex: OSError) -> VmFailure:
        match ex.errno:
            case errno.EBUSY:
                problem = f"interface {name} is in use by another process"
            case errno.EPERM:
                problem = (
                    f"no right to use interface {name}: run velum-vmm with CAP_NET_ADMIN, or "
                    f"make it with 'ip tuntap add {name} mode tap user USER'"
                )
            case errno.EINVAL if queues > 1:
                problem = (
                    f"interface {name} is no tap for {queues} queues: "
                    f"'ip tuntap add {name} mode tap multi_queue' makes one"
                )
            case errno.EINVAL:
                problem = f"interface {name} is no tap: 'ip tuntap add {name} mode tap' makes one"
            case errno.ENOENT | errno.ENODEV | errno.ENXIO:
                problem = f"{TUN} is not there: load the module tun"
            case _:
                problem = f"interface {name} cannot be opened"
        return _failed(self._pointer, problem, ex)


def set_up(tap: Tap, config: NetConfig) -> int:
    """Give the host's end what the configuration says, and return its MTU."""
    if config.host_mac is not None:
        with tap.setting("host_mac", config.host_mac) as interface:
            interface.mac = mac_bytes(config.host_mac)
    if config.mtu is not None:
        with tap.setting("mtu", config.mtu) as interface:
            interface.mtu = config.mtu
    if config.ip is not None and config.mask is not None:
        with tap.setting("ip", f"{config.ip} with mask {config.mask}") as interface:
            interface.set_address(config.ip, config.mask)
    with tap.setting("tap", "up") as interface:
        interface.bring_up()
        return interface.mtu


def mac_bytes(text: str) -> bytes:
    """Return an address as the kernel has it."""
    return bytes.fromhex(text.replace(":", ""))


def _failed(pointer: str, problem: str, ex: OSError) -> VmFailure:
    return VmFailure.of_host(problem, ex).at(pointer)
