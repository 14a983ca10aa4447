# SPDX-License-Identifier: Apache-2.0
"""The watchdog, which has no host's side but its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvm_shim.virtio.watchdog import create_watchdog
from vmm_worker.devices.backend import Backend

if TYPE_CHECKING:
    from kvm_shim import Device, Vm
    from kvm_shim.virtio.place import Place

__all__ = ["Watchdog"]

_TIMEOUT_MS: Final = 15_000
"""As Cloud Hypervisor's, whose drivers come by far more often."""


class Watchdog(Backend):
    """A guest that stays away is booted again."""

    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the watchdog of a new machine; it sleeps until the guest begins."""
        return create_watchdog(vm, place, timeout_ms=_TIMEOUT_MS)
