# SPDX-License-Identifier: Apache-2.0
"""The panic device, which needs nothing of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_shim.virtio.pvpanic import create_pvpanic
from vmm_worker.devices.backend import Backend

if TYPE_CHECKING:
    from kvm_shim import Device, Vm
    from kvm_shim.virtio.place import Place

__all__ = ["Pvpanic"]


class Pvpanic(Backend):
    """A guest's panic is the event PANICKED; the guest goes on running."""

    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the device of a new machine."""
        return create_pvpanic(vm, place)
