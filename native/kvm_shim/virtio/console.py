# SPDX-License-Identifier: Apache-2.0
"""The virtio console."""

from kvm_shim._native import lib
from kvm_shim.device import Device
from kvm_shim.handle import checked
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["Console", "create_console"]


class Console(Device):
    """A console of one port."""

    def attach(self, input: int, output: int) -> None:  # noqa: A002 - the field's own word
        """Connect file descriptors (-1 for none) in place of what was connected."""
        with self._handle.use():
            checked(lib.kvmshim_console_attach, self._device, input, output)

    def detach(self) -> None:
        """Disconnect; output is kept in a ring from now on."""
        with self._handle.use():
            checked(lib.kvmshim_console_detach, self._device)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the guest the size of the terminal; 0 x 0 when it has none.

        That of a pty whoever opens it sets himself.
        """
        with self._handle.use():
            checked(lib.kvmshim_console_resize, self._device, columns, rows)


def create_console(vm: Vm, place: Place) -> Console:
    """Add a console; it starts out connected to nothing."""
    return create(Console, lib.kvmshim_console_create, vm, place)
