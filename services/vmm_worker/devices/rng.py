# SPDX-License-Identifier: Apache-2.0
"""Where the guest's entropy comes from."""

from __future__ import annotations

import os

from ipc_protocol.config_devices import RngConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim import Device, Vm
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.rng import create_rng
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.limiters import create_limiter

__all__ = ["Rng"]

_KERNEL = {"/dev/random", "/dev/urandom"}
"""The same generator as getrandom(2), which needs no descriptor."""


class Rng(Backend):
    """A source of entropy, open while the VM is there.

    Args:
        device_id: The device's id.
        config: Its configuration; valid.
        pointer: Where in the request the configuration is, such as "/rng".

    Raises:
        VmFailure: If the source cannot be opened.
    """

    def __init__(self, device_id: str, config: RngConfig, *, pointer: str) -> None:
        super().__init__(device_id)
        self._config = config
        self._fd = -1 if config.src in _KERNEL else self._open(f"{pointer}/src")

    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the device of a new machine."""
        limiter = create_limiter(vm, self._config.rate_limiter_config)
        return create_rng(vm, place, self._fd, limiter)

    def close(self) -> None:
        """Close the source."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, pointer: str) -> int:
        try:
            # A source with nothing to give must not hold up the device, nor a pipe this.
            return os.open(self._config.src, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as ex:
            reason = ex.strerror or str(ex)
            raise VmFailure(
                ErrorCode.FILE_UNAVAILABLE,
                f"{pointer}: {self._config.src} cannot be a source of entropy: {reason}",
                causes=(reason,),
                fields=(FieldError(pointer, reason),),
            ) from ex
