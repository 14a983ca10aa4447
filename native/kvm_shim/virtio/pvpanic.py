# SPDX-License-Identifier: Apache-2.0
"""The panic device, on PCI."""

from kvm_shim._native import lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["create_pvpanic"]


def create_pvpanic(vm: Vm, place: Place) -> Device:
    """Add a device by which the guest says that it panicked."""
    return create(Device, lib.kvmshim_pvpanic_create, vm, place)
