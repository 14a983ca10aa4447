# SPDX-License-Identifier: Apache-2.0
"""The virtio socket device."""

import os

from kvm_shim._native import lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["create_vsock"]


def create_vsock(vm: Vm, place: Place, cid: int, listener: int, path: str) -> Device:
    """Add sockets between host and guest.

    Args:
        vm: The VM.
        place: Where it is and what it is called.
        cid: The guest's address, 3 or more.
        listener: A listening UNIX socket, which is duplicated. A client says
            ``CONNECT <port>`` and is answered ``OK <port>`` when the guest accepts.
        path: What the guest connects to is at ``<path>_<port>``.
    """
    where = os.fsencode(path)
    return create(Device, lib.kvmshim_vsock_create, vm, place, cid, listener, where)
