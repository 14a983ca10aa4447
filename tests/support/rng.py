# SPDX-License-Identifier: Apache-2.0
"""The entropy device: the least there is of a virtio device, and so what stands for all."""

from __future__ import annotations

from kvm_shim.virtio.rng import create_rng
from tests.support.machines import GuestVm
from tests.support.virtio import Driver

__all__ = ["RNG_SLOT", "driver_of", "with_rng"]

RNG_SLOT = 3
_DRIVER_MEMORY = 0x300000


def with_rng(guest: GuestVm) -> GuestVm:
    """Give the guest an entropy device, `_rng`."""
    guest.devices["rng"] = create_rng(guest.vm, guest.place("_rng", RNG_SLOT))
    return guest


def driver_of(guest: GuestVm, slot: int = RNG_SLOT) -> Driver:
    """Return the driver of an entropy device of the guest."""
    return Driver(guest.vm, slot, _DRIVER_MEMORY)
