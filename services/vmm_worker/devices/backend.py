# SPDX-License-Identifier: Apache-2.0
"""The host's side of a device: what it keeps open for the guest's PCI device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvm_shim import Device, Vm
    from kvm_shim.virtio.place import Place

__all__ = ["Backend"]


class Backend(ABC):
    """What of the host one device uses.

    It is opened when the VM is booted, kept over guest reboots (so that a path or an
    interface stays what it was), and closed when the VM is shut down. Its constructor
    opens what it needs and raises ``VmFailure`` with the pointer of the field at fault;
    then nothing is left open.

    All methods but :meth:`found` are called by one thread at a time.

    Args:
        device_id: The device's id, unique in its VM.
    """

    descriptors: tuple[int, ...] = ()
    """What the control loop watches: :meth:`ready` is called when one is readable."""

    def __init__(self, device_id: str) -> None:
        self.id = device_id

    @abstractmethod
    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the device of a new machine; called once for each boot.

        Rate limiters belong to a machine, and so are made here as well.
        """

    def ready(self) -> None:  # noqa: B027 - most devices have no descriptors
        """Take what waits at one of the descriptors, without blocking."""

    def hang_up(self) -> None:  # noqa: B027 - most devices have no peer
        """React to the end of the peer (the event SERIAL_HANGUP with this id)."""

    def follow_window(self) -> None:  # noqa: B027 - most devices have no terminal
        """Take note that the worker's terminal has another size (SIGWINCH)."""

    def found(self) -> Mapping[str, object]:
        """Return the fields of the configuration that ``vm.info`` shows another value for.

        A pty's path, say, or a MAC address that was drawn; from any thread.
        """
        return {}

    def close(self) -> None:  # noqa: B027 - some keep nothing open
        """Give everything back to the host; the machine is gone. Again is harmless."""
