# SPDX-License-Identifier: Apache-2.0
"""What the events mean that the shim reports: a guest's own stop, its crash, its devices."""

from __future__ import annotations

import time
from typing import Final

from ipc_protocol.messages import GuestStop
from kvm_shim import Event, EventKind, Registers
from vmm_worker.log import guest_logger

__all__ = ["NOTES", "REBOOTS", "RebootPace", "describe", "note"]

_guest_log = guest_logger(__name__)

_REASONS: Final = {
    EventKind.RESET: "reset",
    EventKind.POWER_OFF: "power_off",
    EventKind.TRIPLE_FAULT: "triple_fault",
    EventKind.INTERNAL_ERROR: "internal_error",
    EventKind.GUEST_PANIC: "panic",
    EventKind.PANICKED: "panic",
}

REBOOTS: Final = frozenset({EventKind.RESET, EventKind.TRIPLE_FAULT})
"""After these the VM is booted again: a PC resets on a triple fault, and some kernels
restart by one. After the other stops it is ``Shutdown``."""

NOTES: Final = frozenset({EventKind.DEVICE_LOG, EventKind.DEVICE_ACTIVATED, EventKind.DEVICE_RESET})
"""These are for the log alone."""


def note(event: Event) -> None:
    """Log what a device has to tell."""
    device = {"device": event.source}
    if event.kind is EventKind.DEVICE_LOG:
        _guest_log.warning("%s: %s", event.source, event.text, extra=device)
    elif event.kind is EventKind.DEVICE_ACTIVATED:
        _guest_log.info("%s: the guest's driver uses it", event.source, extra=device)
    else:
        _guest_log.debug("%s: the guest's driver reset it", event.source, extra=device)


def describe(event: Event) -> GuestStop:
    """Return a stop or a crash of the guest in the form ``vm.info`` shows it."""
    age = max(0.0, (time.monotonic_ns() - event.time_ns) / 1e9)
    parts = [event.text] if event.text else []
    if event.vcpu is not None:
        parts.append(f"vCPU {event.vcpu}")
    if event.kind is EventKind.INTERNAL_ERROR:
        parts.append(f"KVM's reason {event.detail[0]:#x}, {event.detail[1]:#x}")
    if event.registers is not None:
        parts.append(_registers(event.registers))
    return GuestStop(
        reason=_REASONS[event.kind],
        source=event.source,
        time=time.time() - age,
        detail="; ".join(parts),
    )


class RebootPace:
    """How long a guest that resets itself has to wait for its next boot.

    The first resets are served at once. A guest that goes on resetting soon after each
    boot waits longer each time, so that it costs its host next to nothing.
    """

    FREE: Final = 3
    FIRST_DELAY: Final = 0.25
    LONGEST_DELAY: Final = 10.0
    CALM: Final = 30.0

    def __init__(self) -> None:
        self._streak = 0

    def delay(self, uptime: float) -> float:
        """Return the seconds to wait.

        Args:
            uptime: How long the guest ran since its last boot, in seconds.
        """
        self._streak = 1 if uptime >= self.CALM else self._streak + 1
        if self._streak <= self.FREE:
            return 0.0
        doublings = min(self._streak - self.FREE - 1, 16)
        return min(self.LONGEST_DELAY, self.FIRST_DELAY * float(1 << doublings))


def _registers(registers: Registers) -> str:
    return " ".join(f"{name}={value:#x}" for name, value in registers._asdict().items())
