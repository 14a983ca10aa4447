# SPDX-License-Identifier: Apache-2.0
"""The settings of one of the host's network interfaces, by its ioctls.

A setting that has the wanted value already is not set again, so that an interface which
the administrator prepared can be used without the right to change it. Addresses alone take
a socket of the internet; everything else is asked of a UNIX one, so that a worker can do
without the right to make others.
"""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from typing import Final

__all__ = ["Interface"]

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFADDR: Final = 0x8915
_SIOCSIFADDR: Final = 0x8916
_SIOCGIFNETMASK: Final = 0x891B
_SIOCSIFNETMASK: Final = 0x891C
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFHWADDR: Final = 0x8927
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A

_IFF_UP: Final = 0x1
_ARPHRD_ETHER: Final = 1
_MAC: Final = slice(18, 24)
_ADDRESS: Final = slice(20, 24)


class Interface:
    """A network interface of the host.

    Every method raises ``OSError`` when the kernel refuses.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def exists(self) -> bool:
        """Whether there is an interface of this name."""
        try:
            socket.if_nametoindex(self.name)
        except OSError:
            return False
        return True

    @property
    def connected(self) -> bool:
        """Whether it is up and somebody is at its other end."""
        # The flag IFF_RUNNING says the same, but up to a second late.
        answer = array.array("I", [_ETHTOOL_GLINK, 0])
        address, _ = answer.buffer_info()
        self._tell(_SIOCETHTOOL, struct.pack("=Q", address))
        return bool(answer[1])

    @property
    def mac(self) -> bytes:
        """The address of the host's end."""
        return self._ask(_SIOCGIFHWADDR)[_MAC]

    @mac.setter
    def mac(self, mac: bytes) -> None:
        if mac != self.mac:
            self._tell(_SIOCSIFHWADDR, struct.pack("=H6s", _ARPHRD_ETHER, mac))

    @property
    def mtu(self) -> int:
        """The longest packet in a frame, in bytes."""
        (mtu,) = struct.unpack_from("=i", self._ask(_SIOCGIFMTU), 16)
        return int(mtu)

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        if mtu != self.mtu:
            self._tell(_SIOCSIFMTU, struct.pack("=i", mtu))

    def set_address(self, address: str, mask: str) -> None:
        """Give the host's end an IPv4 or IPv6 address."""
        ip = ipaddress.ip_address(address)
        netmask = ipaddress.ip_address(mask)
        if ip.version == 6:  # noqa: PLR2004
            self._set_ipv6(ip.packed, int(netmask).bit_count())
        elif self._ipv4() != (ip.packed, netmask.packed):
            self._tell_ipv4(_SIOCSIFADDR, ip.packed)
            self._tell_ipv4(_SIOCSIFNETMASK, netmask.packed)

    def bring_up(self) -> None:
        """Let it carry frames."""
        flags = self._flags()
        if not flags & _IFF_UP:
            self._tell(_SIOCSIFFLAGS, struct.pack("=H", flags | _IFF_UP))

    def _flags(self) -> int:
        (flags,) = struct.unpack_from("=H", self._ask(_SIOCGIFFLAGS), 16)
        return int(flags)

    def _ipv4(self) -> tuple[bytes, bytes] | None:
        try:
            return self._ask_ipv4(_SIOCGIFADDR), self._ask_ipv4(_SIOCGIFNETMASK)
        except OSError:  # it has none
            return None

    def _set_ipv6(self, address: bytes, prefix: int) -> None:
        index = socket.if_nametoindex(self.name)
        request = struct.pack("=16sIi", address, prefix, index)  # struct in6_ifreq
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            try:
                fcntl.ioctl(control, _SIOCSIFADDR, request)
            except FileExistsError:
                return

    def _ask_ipv4(self, request: int) -> bytes:
        return self._ioctl(request, b"", socket.AF_INET)[_ADDRESS]

    def _tell_ipv4(self, request: int, address: bytes) -> None:
        value = struct.pack("=HH4s", socket.AF_INET, 0, address)
        self._ioctl(request, value, socket.AF_INET)

    def _ask(self, request: int) -> bytes:
        return self._ioctl(request, b"", socket.AF_UNIX)

    def _tell(self, request: int, value: bytes) -> None:
        self._ioctl(request, value, socket.AF_UNIX)

    def _ioctl(self, request: int, value: bytes, family: socket.AddressFamily) -> bytes:
        with socket.socket(family, socket.SOCK_DGRAM) as control:
            return fcntl.ioctl(control, request, struct.pack("=16s24s", self.name.encode(), value))
