# SPDX-License-Identifier: Apache-2.0
"""The network device."""

from collections.abc import Sequence
from typing import NamedTuple

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["Net", "NetConfig", "create_net"]


class NetConfig(NamedTuple):
    """What a network device is made of. It has its own duplicates of the descriptors.

    Attributes:
        taps: One for each queue pair, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR.
        mac: The guest's address, 6 bytes.
        vhosts: As many open /dev/vhost-net; without any the shim moves the frames.
        queue_size: A power of two, 4 to 1024.
        mtu: What the guest is told; 0 for nothing.
        offload_csum: Leave checksums to who sends or receives.
        offload_tso: And the segmentation of TCP.
        offload_ufo: And the fragmentation of UDP.
        rx_limiter: For what the guest receives; not with `vhosts`.
        tx_limiter: For what it sends.
    """

    taps: Sequence[int]
    mac: bytes
    vhosts: Sequence[int] = ()
    queue_size: int = 256
    mtu: int = 0
    offload_csum: bool = True
    offload_tso: bool = True
    offload_ufo: bool = True
    rx_limiter: Device | None = None
    tx_limiter: Device | None = None


class Net(Device):
    """A network device."""


def create_net(vm: Vm, place: Place, config: NetConfig) -> Net:
    """Add a network device on a tap."""
    taps = ffi.new("int[]", list(config.taps))
    vhosts = ffi.new("int[]", list(config.vhosts)) if config.vhosts else ffi.NULL
    limiters = {
        name: ffi.NULL if limiter is None else limiter.pointer
        for name, limiter in (
            ("rx_limiter", config.rx_limiter),
            ("tx_limiter", config.tx_limiter),
        )
    }
    parts = ffi.new(
        "kvmshim_net_config *",
        {
            "taps": taps,
            "vhosts": vhosts,
            "queue_pairs": len(config.taps),
            "queue_size": config.queue_size,
            "mtu": config.mtu,
            "mac": config.mac,
            "offload_csum": config.offload_csum,
            "offload_tso": config.offload_tso,
            "offload_ufo": config.offload_ufo,
            **limiters,
        },
    )
    return create(Net, lib.kvmshim_net_create, vm, place, parts)
