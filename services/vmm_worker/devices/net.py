# SPDX-License-Identifier: Apache-2.0
"""The host's side of a network device: a tap, and the kernel's vhost-net where it can be had."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kvm_shim.virtio import net
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.limiters import create_limiter
from vmm_worker.devices.tap import Tap, mac_bytes, set_up

if TYPE_CHECKING:
    from ipc_protocol.config_devices import NetConfig
    from kvm_shim import Vm
    from kvm_shim.virtio.place import Place

__all__ = ["VHOST_NET", "Net", "draw_mac"]

_log = logging.getLogger(__name__)

VHOST_NET: Final = "/dev/vhost-net"
_MAC_BYTES: Final = 6
_MULTICAST: Final = 1
_LOCAL: Final = 2


class Net(Backend):
    """A tap interface as a network device.

    Args:
        device_id: The device's id.
        config: What is wanted.
        pointer: The configuration's place, for errors: ``/net/0``.
    """

    def __init__(self, device_id: str, config: NetConfig, *, pointer: str) -> None:
        super().__init__(device_id)
        self._config = config
        self._mac = mac_bytes(config.mac or draw_mac())
        self._tap = Tap(config.tap, config.num_queues // 2, f"{pointer}/tap")
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            self._mtu = set_up(self._tap, config)
            stack.pop_all()

    def attach(self, vm: Vm, place: Place) -> net.Net:
        """Make the device of a new machine."""
        config = self._config
        limits = config.rate_limiter_config
        with contextlib.ExitStack() as opened:
            parts = net.NetConfig(
                taps=self._tap.descriptors,
                mac=self._mac,
                vhosts=self._open_vhosts(opened),
                queue_size=config.queue_size,
                mtu=self._mtu,
                offload_csum=config.offload_csum,
                offload_tso=config.offload_tso,
                offload_ufo=config.offload_ufo,
                rx_limiter=create_limiter(vm, limits),
                tx_limiter=create_limiter(vm, limits),
            )
            return net.create_net(vm, place, parts)

    def found(self) -> Mapping[str, object]:
        """Return the interface's name and the guest's address."""
        return {"tap": self._tap.interface.name, "mac": self._mac.hex(":")}

    def close(self) -> None:
        """Close the tap; it is gone when it was made here."""
        self._tap.close()

    def _open_vhosts(self, opened: contextlib.ExitStack) -> tuple[int, ...]:
        """Open vhost-net for each queue pair, or for none: it is not here, or not to be used."""
        config = self._config
        if not config.vhost or config.rate_limiter_config is not None:
            return ()
        vhosts = []
        for _ in self._tap.descriptors:
            try:
                descriptor = os.open(VHOST_NET, os.O_RDWR | os.O_CLOEXEC)
            except OSError as ex:
                _log.info(
                    "%s: %s: %s; the worker moves the frames itself",
                    self.id,
                    VHOST_NET,
                    ex.strerror,
                )
                return ()
            opened.callback(os.close, descriptor)
            vhosts.append(descriptor)
        return tuple(vhosts)


def draw_mac() -> str:
    """Draw an address of one station, administered locally (IEEE 802, 8.4)."""
    drawn = bytearray(os.urandom(_MAC_BYTES))
    drawn[0] = drawn[0] & ~_MULTICAST | _LOCAL
    return drawn.hex(":")
