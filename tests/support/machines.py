# SPDX-License-Identifier: Apache-2.0
"""A tiny guest on a bare ``kvm_shim.Vm``, with the devices of a PC and a console."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import kvm_shim
from kvm_shim.virtio.place import Place
from tests.support.console import Console
from tests.support.guests import COUNTERS, build
from tests.support.pvh import boot_pvh

__all__ = ["MEMORY", "GuestVm", "cpuid", "move", "move_at_work", "pause_at_work"]

MEMORY = 4 << 20
"""RAM of a tiny guest: the image is at 1 MiB, the counters are at 2 MiB."""

_PCI_WINDOW = 0xC000_0000
_BAR_SIZE = 512 << 10
_DRIVERS = {kvm_shim.EventKind.DEVICE_ACTIVATED, kvm_shim.EventKind.DEVICE_RESET}
_ECX_TSC_DEADLINE = 1 << 24
_ECX_HYPERVISOR = 1 << 31


def cpuid(supported: Iterable[kvm_shim.CpuidEntry], apic_id: int = 0) -> list[kvm_shim.CpuidEntry]:
    """Return what KVM supports, with the fields that are each vCPU's own."""
    entries = []
    for entry in supported:
        if entry.function == 1:
            ebx = entry.ebx & 0x00FFFFFF | (apic_id & 0xFF) << 24
            ecx = entry.ecx | _ECX_TSC_DEADLINE | _ECX_HYPERVISOR
            entries.append(entry._replace(ebx=ebx, ecx=ecx))
        elif entry.function in (0xB, 0x1F):
            entries.append(entry._replace(edx=apic_id))
        else:
            entries.append(entry)
    return entries


class GuestVm:
    """A VM with one of the tiny guests at its entry point.

    Args:
        guest: A name of tests/guests, or ``None``: nothing is loaded.
        vcpus: How many; the guest is told by ``cpus=N`` on its command line.
        cmdline: More of the command line.
        memory: Bytes of RAM from address 0.
        flags: How the host has it.
        connected: Whether the serial port starts out attached to the console.
    """

    def __init__(
        self,
        guest: str | None,
        *,
        vcpus: int = 1,
        cmdline: str = "",
        memory: int = MEMORY,
        flags: kvm_shim.MemoryFlag = kvm_shim.MemoryFlag(0),  # noqa: B008 - immutable
        connected: bool = True,
    ) -> None:
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self.vm = stack.enter_context(kvm_shim.Vm())
            self.vcpus = vcpus
            self.vm.add_memory(0, memory, flags)
            supported = kvm_shim.supported_cpuid()
            for index in range(vcpus):
                self.vm.create_vcpu(index, index)
                self.vm.set_cpuid(index, cpuid(supported, index))
            self.serial = self.vm.serial(0x3F8, 4)
            self.ged = self.vm.ged(0xE7000000, 5)
            self.debug_port = self.vm.debug_port(0x80)
            self.devices: dict[str, kvm_shim.Device] = {
                "serial": self.serial,
                "i8042": self.vm.i8042(),
                "rtc": self.vm.rtc(memory, 0),
                "acpi_pm": self.vm.acpi_pm(0x600, 0x608),
                "ged": self.ged,
                "debug_port": self.debug_port,
                "pci": self.vm.pci(0xE8000000),
            }
            self.console, self.line = Console.pair()
            stack.callback(self.console.close)
            stack.callback(self.line.close)
            if connected:
                self.connect()
            if guest is not None:
                boot_pvh(self.vm, build(guest), cmdline=f"cpus={vcpus} {cmdline}")
            self._cleanup = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the VM and close the console; may be called twice."""
        self._cleanup.close()

    def place(self, device_id: str, slot: int) -> Place:
        """Return a place on the PCI bus, with a BAR that no other slot's overlaps."""
        return Place(self.devices["pci"], device_id, slot, _PCI_WINDOW + slot * _BAR_SIZE)

    def connect(self) -> None:
        """Attach the serial port to the console."""
        self.serial.attach(self.line.fileno(), self.line.fileno())

    def run(self) -> Self:
        """Start the vCPU threads and let them go."""
        self.vm.start()
        self.vm.resume()
        return self

    def expect_event(
        self, kind: kvm_shim.EventKind, source: str, timeout: float = 60.0
    ) -> kvm_shim.Event:
        """Wait for the next event and check what and whose it is.

        That a driver takes a device or gives it back is passed over unless it is expected.
        """
        deadline = time.monotonic() + timeout
        while (event := self.vm.next_event()) is None or event.kind in _DRIVERS - {kind}:
            if event is not None:
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.vm.event_fd], [], [], left)[0]:
                self.console.read()
                raise AssertionError(f"no event in {timeout} s; console: {self.console.output!r}")
        assert (event.kind, event.source) == (kind, source), event
        return event

    def expect_power_off(self) -> None:
        """Wait for the guest to enter ACPI S5, as most of the tiny guests do at their end."""
        self.expect_event(kvm_shim.EventKind.POWER_OFF, "acpi_pm")

    def events(self) -> list[kvm_shim.Event]:
        """Take the events that there are."""
        return list(iter(self.vm.next_event, None))

    def logged(self) -> list[str]:
        """Take the events that there are, and return the lines that devices log."""
        log = kvm_shim.EventKind.DEVICE_LOG
        return [event.text for event in self.events() if event.kind is log]

    def count(self, vcpu: int = 0) -> int:
        """Return how far the guest has counted on the vCPU."""
        return int.from_bytes(self.vm.read_memory(COUNTERS + 64 * vcpu, 8), "little")

    def counts(self) -> list[int]:
        """Return how far the guest has counted on each vCPU."""
        return [self.count(index) for index in range(self.vcpus)]

    def wait_for_counts_above(self, floor: list[int], timeout: float = 60.0) -> list[int]:
        """Wait until every vCPU has counted beyond its number, and return the counts."""
        deadline = time.monotonic() + timeout
        while any(count <= low for count, low in zip(self.counts(), floor, strict=True)):
            assert time.monotonic() < deadline, f"{self.counts()} do not all pass {floor}"
            time.sleep(0.0005)
        return self.counts()

    @contextlib.contextmanager
    def eventfd(self) -> Iterator[int]:
        """Lend a non-blocking eventfd."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def move(source: GuestVm, target: GuestVm, *, devices_first: bool = False) -> None:
    """Copy everything there is of a paused guest to a VM that has not been started.

    Args:
        source: Where the guest is.
        target: Has the same memory, vCPUs and devices, made in the same order.
        devices_first: Load the devices before the VM and its vCPUs, not after.
    """
    target.vm.write_memory(0, source.vm.read_memory(0, MEMORY))
    if devices_first:
        _move_devices(source, target)
    target.vm.load(source.vm.save())
    for index in range(source.vcpus):
        target.vm.load_vcpu(index, source.vm.save_vcpu(index))
    if not devices_first:
        _move_devices(source, target)


def pause_at_work(guest: GuestVm, times: int) -> None:
    """Pause a guest that checks what its device does, again and again: nothing may be lost."""
    guest.run()
    for _ in range(times):
        counts = guest.wait_for_counts_above(guest.counts())
        guest.vm.pause()
        assert guest.counts() >= counts
        guest.vm.resume()
    _expect_nothing_wrong(guest)


def move_at_work(
    guest: GuestVm, following: Callable[[], GuestVm], times: int, *, devices_first: bool
) -> None:
    """Move a guest that checks what its device does on and on, each time with all there is.

    Args:
        guest: Where it begins; this VM and all that follow are destroyed.
        following: Makes the next VM, with the same devices and nothing loaded.
        times: How often.
        devices_first: As for :func:`move`.
    """
    try:
        guest.run()
        for _ in range(times):
            counts = guest.wait_for_counts_above(guest.counts())
            guest.vm.pause()
            target = following()
            move(guest, target, devices_first=devices_first)
            _expect_nothing_wrong(guest)
            guest.close()
            guest = target.run()
            guest.wait_for_counts_above(counts)
    finally:
        guest.close()


def _expect_nothing_wrong(guest: GuestVm) -> None:
    guest.console.read()
    assert b"wrong" not in guest.console.output


def _move_devices(source: GuestVm, target: GuestVm) -> None:
    for name, device in source.devices.items():
        target.devices[name].load(device.save())
