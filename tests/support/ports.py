# SPDX-License-Identifier: Apache-2.0
"""Reach a device model as a vCPU does, and bend its saved state."""

from __future__ import annotations

import zlib

import kvm_shim

__all__ = ["Ports", "forged", "payload_of"]

_HEADER_SIZE = 56


class Ports:
    """The registers of one device.

    Args:
        vm: The VM whose bus they are on.
        base: Address of the first register.
        space: The bus.
    """

    def __init__(
        self, vm: kvm_shim.Vm, base: int, space: kvm_shim.Space = kvm_shim.Space.PIO
    ) -> None:
        self._vm = vm
        self._base = base
        self._space = space

    def read(self, offset: int, size: int = 1) -> int:
        """Read `size` bytes at an offset from the base."""
        return self._vm.bus_read(self._space, self._base + offset, size)

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write `size` bytes at an offset from the base; some device must be there."""
        assert self._vm.bus_write(self._space, self._base + offset, value, size)


def payload_of(state: bytes) -> bytes:
    """Return what a device itself put into its saved state."""
    return state[_HEADER_SIZE:]


def forged(state: bytes, offset: int, data: bytes) -> bytes:
    """Return the saved state with `data` at an offset of its payload, its checksum right."""
    payload = payload_of(state)
    bent = payload[:offset] + data + payload[offset + len(data) :]
    assert len(bent) == len(payload)
    old, new = (zlib.crc32(part).to_bytes(4, "little") for part in (payload, bent))
    header = state[:_HEADER_SIZE]
    assert header.count(old) == 1
    return header.replace(old, new) + bent
