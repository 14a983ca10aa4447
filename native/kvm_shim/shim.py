# SPDX-License-Identifier: Apache-2.0
"""A virtual machine of the C core.

Every call releases the GIL while it is in C. One thread at a time may control a VM;
`counters`, `next_event`, `pause`, `nmi` and `close` may be called from any thread.
"""

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from kvm_shim import seccomp
from kvm_shim._native import ffi, lib
from kvm_shim.device import DebugPort, Device, Ged, Serial
from kvm_shim.handle import Handle, checked
from kvm_shim.host import DEFAULT_DEVICE
from kvm_shim.values import (
    Boot,
    Buffer,
    CoreScope,
    Counters,
    CpuidEntry,
    Event,
    EventKind,
    MemoryFlag,
    Registers,
    Space,
)

__all__ = ["AnyDevice", "Vm"]

AnyDevice = TypeVar("AnyDevice", bound=Device)

NO_VCPU = 0xFFFFFFFF

EXIT_KINDS = {
    "io": lib.KVMSHIM_EXIT_IO,
    "mmio": lib.KVMSHIM_EXIT_MMIO,
    "hlt": lib.KVMSHIM_EXIT_HLT,
    "interrupted": lib.KVMSHIM_EXIT_INTERRUPTED,
    "shutdown": lib.KVMSHIM_EXIT_SHUTDOWN,
    "system_event": lib.KVMSHIM_EXIT_SYSTEM_EVENT,
    "error": lib.KVMSHIM_EXIT_ERROR,
    "other": lib.KVMSHIM_EXIT_OTHER,
}

WITH_REGISTERS = frozenset({EventKind.INTERNAL_ERROR, EventKind.TRIPLE_FAULT})


class Vm:
    """A virtual machine: memory, vCPUs with a thread each, interrupts, a bus with devices.

    Args:
        device: The KVM device.

    Raises:
        ShimError: Anything that the C core reports, with its errno and context. After
            `close` every call raises it with EBADF.
    """

    def __init__(self, device: str = DEFAULT_DEVICE) -> None:
        result = ffi.new("kvmshim_vm **")
        checked(lib.kvmshim_vm_create, os.fsencode(device), result)
        self._handle = Handle(result[0])
        if (filters := seccomp.entered()) is not None:
            checked(lib.kvmshim_vm_confine, result[0], filters)
        self.event_fd: int = lib.kvmshim_vm_event_fd(result[0])
        """Readable while events are queued; closed with the VM."""

    def close(self) -> None:
        """Stop every thread and release everything, devices included."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, function: Callable[..., int], *arguments: Any) -> int:
        with self._handle.use() as vm:
            return checked(function, vm, *arguments)

    # -- running ---------------------------------------------------------------

    def start(self) -> None:
        """Start the vCPU threads, parked: the VM is paused."""
        self._call(lib.kvmshim_vm_start)

    def resume(self) -> None:
        """Let the vCPUs run."""
        self._call(lib.kvmshim_vm_resume)

    def pause(self, timeout: float = 5.0) -> None:
        """Park every vCPU within `timeout` seconds, or leave all running (ETIMEDOUT)."""
        self._call(lib.kvmshim_vm_pause, round(timeout * 1000))

    def schedule_cores(self, scope: CoreScope) -> None:
        """Keep others from running beside the started vCPUs on one core of the host.

        EOPNOTSUPP when its kernel cannot; ENODEV when no core has two hardware threads.
        """
        self._call(lib.kvmshim_vm_core_scheduling, scope)

    def nmi(self) -> None:
        """Inject an NMI into every vCPU."""
        self._call(lib.kvmshim_vm_nmi)

    # -- memory ----------------------------------------------------------------

    def add_memory(self, gpa: int, size: int, flags: MemoryFlag = MemoryFlag(0)) -> None:  # noqa: B008 - immutable
        """Add RAM at a guest-physical address."""
        self._call(lib.kvmshim_memory_add, gpa, size, int(flags))

    def prefault(self, gpa: int, size: int) -> None:
        """Have the host provide the pages of a range of RAM now; it takes its time."""
        self._call(lib.kvmshim_memory_prefault, gpa, size)

    def write_memory(self, gpa: int, data: Buffer) -> None:
        """Copy into guest RAM, all or nothing."""
        view = ffi.from_buffer(data)
        self._call(lib.kvmshim_memory_write, gpa, view, len(view))

    def read_memory(self, gpa: int, size: int) -> bytes:
        """Copy out of guest RAM."""
        data = ffi.new("uint8_t[]", size)
        self._call(lib.kvmshim_memory_read, gpa, data, size)
        return bytes(ffi.buffer(data, size))

    def load_memory(self, gpa: int, fd: int, offset: int, size: int) -> None:
        """Read a part of a file straight into guest RAM."""
        self._call(lib.kvmshim_memory_load, gpa, fd, offset, size)

    # -- interrupts and doorbells ----------------------------------------------

    def set_irq_line(self, gsi: int, level: bool) -> None:  # noqa: FBT001 - a line has a level
        """Raise or lower an interrupt pin."""
        self._call(lib.kvmshim_irq_line, gsi, int(level))

    def route_msi(self, gsi: int, address: int, data: int) -> None:
        """Route a GSI (24 or above) to an MSI."""
        self._call(lib.kvmshim_irq_route_msi, gsi, address, data)

    def unroute(self, gsi: int) -> None:
        """Remove the MSI route of a GSI."""
        self._call(lib.kvmshim_irq_unroute, gsi)

    def add_irqfd(self, fd: int, gsi: int) -> None:
        """Have an eventfd raise a GSI."""
        self._call(lib.kvmshim_irqfd_add, fd, gsi)

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """Undo `add_irqfd`."""
        self._call(lib.kvmshim_irqfd_remove, fd, gsi)

    def add_ioeventfd(
        self, space: Space, address: int, size: int, fd: int, *, match: int | None = None
    ) -> None:
        """Have guest writes of `size` bytes (0: any) signal an eventfd.

        Args:
            space: The bus.
            address: Where the guest writes.
            size: Width of the write.
            fd: The eventfd.
            match: The only value that counts, if not every one does.
        """
        value, matching = match or 0, match is not None
        self._call(lib.kvmshim_ioeventfd_add, space, address, size, matching, value, fd)

    def remove_ioeventfd(
        self, space: Space, address: int, size: int, fd: int, *, match: int | None = None
    ) -> None:
        """Undo `add_ioeventfd` with the same arguments."""
        value, matching = match or 0, match is not None
        self._call(lib.kvmshim_ioeventfd_remove, space, address, size, matching, value, fd)

    def bus_read(self, space: Space, address: int, size: int) -> int:
        """Read as a vCPU would; all ones where there is nothing."""
        data = ffi.new("uint8_t[8]")
        self._call(lib.kvmshim_bus_access, space, address, 0, data, size)
        return int.from_bytes(ffi.buffer(data, size), "little")

    def bus_write(self, space: Space, address: int, value: int, size: int) -> bool:
        """Write as a vCPU would, and tell whether a device claimed it."""
        data = value.to_bytes(size, "little")
        buffer = ffi.new("uint8_t[8]", data.ljust(8, b"\0"))
        return bool(self._call(lib.kvmshim_bus_access, space, address, 1, buffer, size))

    # -- vCPUs -----------------------------------------------------------------

    def create_vcpu(self, index: int, apic_id: int) -> None:
        """Create the next vCPU."""
        self._call(lib.kvmshim_vcpu_create, index, apic_id)

    def set_cpuid(self, index: int, entries: Iterable[CpuidEntry]) -> None:
        """Set what CPUID tells, and the MSRs that a CPU has at reset."""
        array = ffi.new("kvmshim_cpuid_entry[]", list(entries))
        self._call(lib.kvmshim_vcpu_set_cpuid, index, array, len(array))

    def set_affinity(self, index: int, cpus: Iterable[int]) -> None:
        """Have a started vCPU run on these CPUs of the host alone (ENODEV: one is not there)."""
        array = ffi.new("uint32_t[]", list(cpus))
        self._call(lib.kvmshim_vcpu_set_affinity, index, array, len(array))

    def set_msrs(self, index: int, msrs: Iterable[tuple[int, int]]) -> None:
        """Set model-specific registers, given as pairs of index and value."""
        array = ffi.new("kvmshim_msr[]", list(msrs))
        self._call(lib.kvmshim_vcpu_set_msrs, index, array, len(array))

    def enter_linux64(self, index: int, boot: Boot) -> None:
        """Set the state of the 64-bit Linux boot protocol's entry."""
        self._call(lib.kvmshim_vcpu_enter_linux64, index, ffi.new("kvmshim_boot *", boot))

    def enter_pvh(self, index: int, boot: Boot) -> None:
        """Set the state of the PVH entry."""
        self._call(lib.kvmshim_vcpu_enter_pvh, index, ffi.new("kvmshim_boot *", boot))

    def registers(self, index: int) -> Registers:
        """Return the registers of a parked vCPU."""
        registers = ffi.new("kvmshim_registers *")
        self._call(lib.kvmshim_vcpu_registers, index, registers)
        return _registers(registers)

    def counters(self, index: int) -> Counters:
        """Return a vCPU's counters, while it runs."""
        counters = ffi.new("kvmshim_counters *")
        self._call(lib.kvmshim_vcpu_counters, index, counters)
        return Counters(
            exits={name: counters.exits[kind] for name, kind in EXIT_KINDS.items()},
            unclaimed_io=counters.unclaimed_io,
            unclaimed_mmio=counters.unclaimed_mmio,
            first_run_ns=counters.first_run_ns,
            cpu_ns=counters.cpu_ns,
        )

    # -- saved state -----------------------------------------------------------

    def save_vcpu(self, index: int) -> bytes:
        """Return the complete state of a parked vCPU."""
        with self._handle.use() as vm:
            return self._handle.save(lib.kvmshim_vcpu_save, vm, index)

    def load_vcpu(self, index: int, state: Buffer) -> None:
        """Load a saved state into a vCPU that has its CPUID set."""
        self._call(lib.kvmshim_vcpu_load, index, ffi.from_buffer(state), len(state))

    def save(self) -> bytes:
        """Return the state of the irqchip, the GSI routes and kvmclock."""
        with self._handle.use() as vm:
            return self._handle.save(lib.kvmshim_vm_save, vm)

    def load(self, state: Buffer) -> None:
        """Load what `save` returned."""
        self._call(lib.kvmshim_vm_load, ffi.from_buffer(state), len(state))

    # -- events ----------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Return the oldest event that was not fetched yet."""
        event = ffi.new("kvmshim_event *")
        with self._handle.use() as vm:
            if not lib.kvmshim_vm_event_next(vm, event):
                return None
        kind = EventKind(event.kind)
        return Event(
            kind=kind,
            vcpu=None if event.vcpu == NO_VCPU else event.vcpu,
            time_ns=event.time_ns,
            detail=(event.detail[0], event.detail[1]),
            source=ffi.string(event.source).decode("ascii", "replace"),
            text=ffi.string(event.text).decode("utf-8", "replace"),
            registers=_registers(event.registers) if kind in WITH_REGISTERS else None,
        )

    # -- devices ---------------------------------------------------------------

    def device(
        self, kind: type[AnyDevice], function: Callable[..., int], *arguments: Any
    ) -> AnyDevice:
        """Add a device by a create function of the C core; for this package's modules."""
        device = ffi.new("kvmshim_device **")
        self._call(function, *arguments, device)
        return kind(self._handle, device[0])

    def serial(self, port: int, gsi: int) -> Serial:
        """Add a 16550A at a port."""
        return self.device(Serial, lib.kvmshim_serial_create, port, gsi)

    def i8042(self) -> Device:
        """Add as much of a keyboard controller as a reset takes."""
        return self.device(Device, lib.kvmshim_i8042_create)

    def rtc(self, ram_below_4g: int, ram_above_4g: int) -> Device:
        """Add a CMOS clock, which also tells firmware the size of RAM."""
        return self.device(Device, lib.kvmshim_rtc_create, ram_below_4g, ram_above_4g)

    def acpi_pm(self, sleep_port: int, timer_port: int) -> Device:
        """Add the ACPI sleep and reset register and the PM timer."""
        return self.device(Device, lib.kvmshim_acpi_pm_create, sleep_port, timer_port)

    def ged(self, gpa: int, gsi: int) -> Ged:
        """Add a Generic Event Device."""
        return self.device(Ged, lib.kvmshim_ged_create, gpa, gsi)

    def debug_port(self, port: int) -> DebugPort:
        """Add a port that keeps boot timestamps."""
        return self.device(DebugPort, lib.kvmshim_debug_port_create, port)

    def pci(self, ecam: int) -> Device:
        """Add PCI bus 0 with its host bridge and both ways to its configuration space."""
        return self.device(Device, lib.kvmshim_pci_create, ecam)


def _registers(registers: Any) -> Registers:
    return Registers(*(getattr(registers, field) for field in Registers._fields))
