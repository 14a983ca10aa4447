# SPDX-License-Identifier: Apache-2.0
"""A virtio entropy device."""

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["create_rng"]


def create_rng(vm: Vm, place: Place, source: int = -1, limiter: Device | None = None) -> Device:
    """Add an entropy device.

    Args:
        vm: The VM.
        place: Where it is and what it is called.
        source: A file descriptor to read the entropy from, which the device duplicates; -1 for
            the kernel's own generator.
        limiter: A rate limiter.
    """
    limit = ffi.NULL if limiter is None else limiter.pointer
    return create(Device, lib.kvmshim_rng_create, vm, place, source, limit)
