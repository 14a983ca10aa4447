# SPDX-License-Identifier: Apache-2.0
"""A file as memory of the guest."""

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["create_pmem"]


def create_pmem(
    vm: Vm, place: Place, *, fd: int, gpa: int, size: int, discard_writes: bool = False
) -> Device:
    """Map a file into the guest's memory, and add the device that tells it.

    Args:
        vm: The VM.
        place: Where the device goes.
        fd: The file.
        gpa: Where the memory goes; a multiple of 2 MiB.
        size: How much of the file; a multiple of 2 MiB.
        discard_writes: Keep the guest's writes out of the file.
    """
    config = {"fd": fd, "gpa": gpa, "size": size, "discard_writes": discard_writes}
    native = ffi.new("kvmshim_pmem_config *", config)
    return create(Device, lib.kvmshim_pmem_create, vm, place, native)
