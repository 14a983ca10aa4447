# SPDX-License-Identifier: Apache-2.0
"""Handles of the device models that live in the C core."""

from typing import Any

from kvm_shim._native import ffi, lib
from kvm_shim.handle import Handle, checked
from kvm_shim.values import BootStamp, Buffer, GedFlag

__all__ = ["DebugPort", "Device", "Ged", "Serial"]

COUNTERS_MAX = 1024  # three for each of 257 queues, and the device's own
STAMPS_MAX = 64


class Device:
    """A device of a VM; it lives as long as the VM does."""

    def __init__(self, handle: Handle, pointer: Any) -> None:
        self._handle = handle
        self._device = pointer

    @property
    def pointer(self) -> Any:
        """The C core's own; for this package's modules."""
        return self._device

    def save(self) -> bytes:
        """Return the state of the device; the VM is paused or not started."""
        with self._handle.use():
            return self._handle.save(lib.kvmshim_device_save, self._device)

    def load(self, state: Buffer) -> None:
        """Take over a saved state; the VM is paused or not started."""
        with self._handle.use():
            checked(lib.kvmshim_device_load, self._device, ffi.from_buffer(state), len(state))

    def counters(self) -> dict[str, int]:
        """Return what the device counts, while it works."""
        counters = ffi.new("kvmshim_counter[]", COUNTERS_MAX)
        count = ffi.new("uint32_t *")
        with self._handle.use():
            checked(lib.kvmshim_device_counters, self._device, counters, COUNTERS_MAX, count)
        return {
            ffi.string(counter.name).decode("ascii"): counter.value
            for counter in counters[0 : count[0]]
        }


class Serial(Device):
    """A 16550A serial port."""

    def attach(self, input: int, output: int) -> None:  # noqa: A002 - the field's own word
        """Connect file descriptors (-1 for none) in place of what was connected."""
        with self._handle.use():
            checked(lib.kvmshim_serial_attach, self._device, input, output)

    def detach(self) -> None:
        """Disconnect; output is kept in a ring from now on."""
        with self._handle.use():
            checked(lib.kvmshim_serial_detach, self._device)


class Ged(Device):
    """A Generic Event Device."""

    def notify(self, flags: GedFlag) -> None:
        """Tell the guest's ACPI what to look at."""
        with self._handle.use():
            checked(lib.kvmshim_ged_notify, self._device, int(flags))


class DebugPort(Device):
    """The boot progress port."""

    def stamps(self) -> list[BootStamp]:
        """Return what the guest wrote, oldest first."""
        stamps = ffi.new("kvmshim_boot_stamp[]", STAMPS_MAX)
        count = ffi.new("uint32_t *")
        with self._handle.use():
            checked(lib.kvmshim_debug_port_stamps, self._device, stamps, STAMPS_MAX, count)
        return [BootStamp(stamps[i].time_ns, stamps[i].code) for i in range(count[0])]
