# SPDX-License-Identifier: Apache-2.0
"""The memory balloon, which needs nothing of the host but the guest's own memory."""

from __future__ import annotations

from ipc_protocol.config_devices import BalloonConfig
from kvm_shim import Vm
from kvm_shim.virtio import balloon
from kvm_shim.virtio.place import Place
from vmm_worker.devices.backend import Backend

__all__ = ["Balloon"]


class Balloon(Backend):
    """Memory that the guest gives back to the host.

    Args:
        device_id: The device's id.
        config: Its configuration; valid.
    """

    def __init__(self, device_id: str, config: BalloonConfig) -> None:
        super().__init__(device_id)
        self._config = config
        self._size = config.size
        self._device: balloon.Balloon | None = None

    def attach(self, vm: Vm, place: Place) -> balloon.Balloon:
        """Make the balloon of a new machine, of the size that was asked for last."""
        self._device = balloon.create_balloon(
            vm,
            place,
            size=self._size,
            deflate_on_oom=self._config.deflate_on_oom,
            free_page_reporting=self._config.free_page_reporting,
            statistics=self._config.statistics,
        )
        return self._device

    def resize(self, size: int) -> None:
        """Ask the guest, now and after each reboot, for `size` bytes."""
        if self._device is not None:
            self._device.resize(size)
        self._size = size

    @property
    def size(self) -> int:
        """The bytes that the guest is asked for."""
        return self._size

    @property
    def actual(self) -> int:
        """The bytes that the guest has given at present; from any thread."""
        return 0 if self._device is None else self._device.actual()

    def close(self) -> None:
        """Forget the machine."""
        self._device = None
