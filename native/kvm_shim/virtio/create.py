# SPDX-License-Identifier: Apache-2.0
"""How each kind of PCI device is made."""

from collections.abc import Callable
from typing import Any

from kvm_shim._native import ffi
from kvm_shim.shim import AnyDevice, Vm
from kvm_shim.virtio.place import Place

__all__ = ["create"]


def create(
    kind: type[AnyDevice], function: Callable[..., int], vm: Vm, place: Place, *arguments: Any
) -> AnyDevice:
    """Make a device of a VM.

    Args:
        kind: What its handle is.
        function: The create function of the C core.
        vm: The VM.
        place: Where it is and what it is called.
        *arguments: What the function takes between the place and its results.
    """
    name = ffi.new("char[]", place.id.encode())
    where = ffi.new(
        "kvmshim_place *",
        {"pci": place.bus.pointer, "id": name, "slot": place.slot, "bar": place.bar},
    )
    return vm.device(kind, function, where, *arguments)
