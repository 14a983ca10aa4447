# SPDX-License-Identifier: Apache-2.0
"""The memory balloon."""

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.handle import checked
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["Balloon", "create_balloon"]


class Balloon(Device):
    """A memory balloon."""

    def resize(self, size: int) -> None:
        """Ask the guest to give up so many bytes in all."""
        with self._handle.use():
            checked(lib.kvmshim_balloon_resize, self._device, size)

    def actual(self) -> int:
        """Return how many bytes the guest has given up at present."""
        size = ffi.new("uint64_t *")
        with self._handle.use():
            checked(lib.kvmshim_balloon_actual, self._device, size)
        return int(size[0])


def create_balloon(
    vm: Vm,
    place: Place,
    *,
    size: int = 0,
    deflate_on_oom: bool = False,
    free_page_reporting: bool = False,
    statistics: bool = False,
) -> Balloon:
    """Add a balloon.

    Args:
        vm: The VM.
        place: Where it goes.
        size: Bytes to take from the guest at first.
        deflate_on_oom: Let the guest take memory back when it runs out.
        free_page_reporting: Let the guest give back what it has no use for at the moment.
        statistics: Have the guest report on its memory; they are counters.
    """
    config = {
        "size": size,
        "deflate_on_oom": deflate_on_oom,
        "free_page_reporting": free_page_reporting,
        "statistics": statistics,
    }
    native = ffi.new("kvmshim_balloon_config *", config)
    return create(Balloon, lib.kvmshim_balloon_create, vm, place, native)
