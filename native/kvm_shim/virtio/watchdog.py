# SPDX-License-Identifier: Apache-2.0
"""The watchdog, as Cloud Hypervisor has it."""

from kvm_shim._native import lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["create_watchdog"]


def create_watchdog(vm: Vm, place: Place, *, timeout_ms: int) -> Device:
    """Add a watchdog that resets the VM when the guest, having begun, stays away so long."""
    return create(Device, lib.kvmshim_watchdog_create, vm, place, timeout_ms)
