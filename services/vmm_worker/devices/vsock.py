# SPDX-License-Identifier: Apache-2.0
"""The host's side of the socket device: a UNIX socket for the host's clients.

It is there from boot to shutdown, over reboots too: a client that comes while the guest
has no driver waits in the backlog. The servers that the guest connects to are at
``<socket>_<port>`` and somebody else's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipc_protocol.errors import VmFailure
from ipc_protocol.listener import SocketPath
from kvm_shim.virtio.vsock import create_vsock
from vmm_worker.devices.backend import Backend

if TYPE_CHECKING:
    from ipc_protocol.config_devices import VsockConfig
    from kvm_shim import Device, Vm
    from kvm_shim.virtio.place import Place

__all__ = ["Vsock"]


class Vsock(Backend):
    """A listening socket, given to the device of each boot."""

    def __init__(self, device_id: str, config: VsockConfig, pointer: str = "/vsock") -> None:
        super().__init__(device_id)
        self._cid = config.cid
        field = f"{pointer}/socket"
        try:
            self._place = SocketPath(config.socket)
        except VmFailure as ex:
            raise ex.at(field) from ex
        self._listener = self._place.detach()

    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the device."""
        return create_vsock(vm, place, self._cid, self._listener, self._place.path)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._listener == -1:
            return
        os.close(self._listener)
        self._listener = -1
        self._place.close()
