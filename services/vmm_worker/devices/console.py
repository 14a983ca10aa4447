# SPDX-License-Identifier: Apache-2.0
"""The virtio console, which can go wherever the serial port can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvm_shim.virtio.console import create_console
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.terminal import open_terminal

if TYPE_CHECKING:
    from ipc_protocol.config_devices import ConsoleConfig
    from kvm_shim import Vm
    from kvm_shim.virtio import console
    from kvm_shim.virtio.place import Place

__all__ = ["Console"]


class Console(Backend):
    """A terminal for the guest's console.

    Args:
        device_id: The device's id.
        config: Its configuration; valid.
        pointer: Where in the request the configuration is.
        stdin: Whether it may read the worker's stdin: not where the serial port does.

    Raises:
        VmFailure: When the terminal cannot be opened.
    """

    def __init__(
        self, device_id: str, config: ConsoleConfig, *, pointer: str = "/console", stdin: bool
    ) -> None:
        super().__init__(device_id)
        self._terminal = open_terminal(pointer, config, stdin=stdin)
        if self._terminal.listener is not None:
            self.descriptors = (self._terminal.listener,)
        self._device: console.Console | None = None

    def attach(self, vm: Vm, place: Place) -> console.Console:
        """Make the console of a new machine, with the terminal as it is now."""
        self._device = create_console(vm, place)
        self._terminal.connect(self._device)
        self.follow_window()
        return self._device

    def ready(self) -> None:
        """Connect the client that waits at the socket, in place of the one there was."""
        if self._terminal.accept():
            self._reconnect()

    def hang_up(self) -> None:
        """Forget the client that left."""
        if self._terminal.hang_up():
            self._reconnect()

    def follow_window(self) -> None:
        """Tell the guest the size of the worker's terminal, if it goes there."""
        window = self._terminal.window()
        if window is not None and self._device is not None:
            self._device.resize(*window)

    def found(self) -> Mapping[str, object]:
        """Return the path of a pty."""
        return {} if self._terminal.path is None else {"file": self._terminal.path}

    def close(self) -> None:
        """Close the terminal."""
        self._device = None
        self.descriptors = ()
        self._terminal.close()

    def _reconnect(self) -> None:
        if self._device is not None:
            self._terminal.connect(self._device)
