# SPDX-License-Identifier: Apache-2.0
"""From a configuration to a machine that is ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from ipc_protocol.config import MemoryConfig, VmConfig
from ipc_protocol.config_devices import SerialMode
from kvm_shim import DebugPort, Device, Ged, MemoryFlag, Serial, Vm
from kvm_shim.virtio.place import Place
from vmm_worker.devices.kinds import Installed
from vmm_worker.machine import layout
from vmm_worker.machine.acpi import acpi_tables
from vmm_worker.machine.cpuid import GuestCpuid
from vmm_worker.machine.host import (
    check_memory,
    check_vcpus,
    device_errors,
    host_errors,
    memory_errors,
    probe,
)
from vmm_worker.machine.memory import low_ram_end, memory_map, ram_regions
from vmm_worker.machine.payload import Payload
from vmm_worker.machine.reset_vector import reset_vector
from vmm_worker.machine.schedule import schedule_vcpus
from vmm_worker.progress import Progress

__all__ = ["Machine", "build_machine"]

_PREFAULT_STEP: Final = 2 << 20
"""Bytes of RAM provided at a time: a huge page, and about as long as a read may take.

While the kernel provides them, no other thread of the process can map memory.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine whose vCPUs are parked at their first instruction."""

    vm: Vm
    vcpus: int
    serial: Serial | None
    ged: Ged
    debug_port: DebugPort
    devices: dict[str, Device]
    """Every device by its id, those above included."""
    memory_size: int

    def close(self) -> None:
        """Stop the guest where it is and release everything."""
        self.vm.close()


def build_machine(
    config: VmConfig,
    installed: Sequence[Installed] = (),
    *,
    kvm: str = "/dev/kvm",
    progress: Progress | None = None,
) -> Machine:
    """Build the machine, load its payload and start its (parked) vCPU threads.

    Everything that can be refused is refused before the VM exists. When it fails later,
    what was built is released.

    Args:
        config: What to build; valid.
        installed: Its PCI devices.
        kvm: The KVM device.
        progress: Where to tell the stages, and where it may be cancelled.

    Raises:
        VmFailure: If this host or the payload cannot do it, or it was cancelled.
    """
    progress = progress or Progress()
    host, supported = probe(kvm)
    cpuid = GuestCpuid(supported, config.cpus)
    check_vcpus(config.cpus, host, cpuid)
    check_memory(config.memory, cpuid.physical_bits)
    size, vcpus = config.memory.size, config.cpus.boot_vcpus
    with (
        Payload.open(config.payload, low_ram_end(size)) as payload,
        host_errors(),
        ExitStack() as undo,
    ):
        vm = undo.enter_context(Vm(kvm))
        progress.enter("memory")
        add_memory(vm, config.memory, progress)
        devices = create_devices(vm, config)
        plug_in(vm, installed, devices.by_id)
        progress.enter("payload")
        payload.load(vm, memory_map(size))
        has_serial = config.serial.mode is not SerialMode.OFF
        progress.enter("vcpus")
        apic_ids = [cpuid.apic_id(index) for index in range(vcpus)]
        vm.write_memory(layout.ACPI_START, acpi_tables(apic_ids, serial=has_serial))
        vm.write_memory(layout.RESET_VECTOR, reset_vector())
        for index, apic_id in enumerate(apic_ids):
            vm.create_vcpu(index, apic_id)
            vm.set_cpuid(index, cpuid.entries(index))
        payload.enter(vm, 0)
        vm.start()
        schedule_vcpus(vm, config.cpus)
        undo.pop_all()
    return Machine(
        vm=vm,
        vcpus=vcpus,
        serial=devices.serial,
        ged=devices.ged,
        debug_port=devices.debug_port,
        devices=devices.by_id,
        memory_size=size,
    )


def add_memory(vm: Vm, memory: MemoryConfig, progress: Progress) -> None:
    """Add the guest's RAM, on either side of the 32-bit gap."""
    flags = MemoryFlag(0)
    if memory.shared:
        flags |= MemoryFlag.SHARED
    if memory.reserve:
        flags |= MemoryFlag.RESERVE
    if memory.hugepages and memory.hugepage_size:
        flags |= MemoryFlag.huge(memory.hugepage_size)
    elif memory.hugepages:
        flags |= MemoryFlag.HUGEPAGES
    elif memory.thp:
        flags |= MemoryFlag.THP
    with memory_errors(memory):
        for region in ram_regions(memory.size):
            vm.add_memory(region.start, region.size, flags)
        if memory.prefault:
            prefault(vm, memory.size, progress)


def prefault(vm: Vm, size: int, progress: Progress) -> None:
    """Have the host provide all of the guest's RAM now, in steps that can be seen."""
    done = 0
    for region in ram_regions(size):
        for offset in range(0, region.size, _PREFAULT_STEP):
            progress.advance(done / size)
            step = min(_PREFAULT_STEP, region.size - offset)
            vm.prefault(region.start + offset, step)
            done += step
    progress.advance(1.0)


@dataclass(frozen=True, slots=True)
class Platform:
    """The devices every machine has."""

    serial: Serial | None
    ged: Ged
    debug_port: DebugPort
    by_id: dict[str, Device]


def create_devices(vm: Vm, config: VmConfig) -> Platform:
    """Create the devices; COM1 is left out when the configuration says Off."""
    low = low_ram_end(config.memory.size)
    ged = vm.ged(layout.PLATFORM_MMIO, layout.GED_GSI)
    debug_port = vm.debug_port(layout.DEBUG_PORT)
    by_id: dict[str, Device] = {
        "__i8042": vm.i8042(),
        "__rtc": vm.rtc(low, config.memory.size - low),
        "__acpi_pm": vm.acpi_pm(layout.ACPI_SLEEP_PORT, layout.ACPI_TIMER_PORT),
        "__ged": ged,
        "__debug_port": debug_port,
        "__pci": vm.pci(layout.ECAM),
    }
    serial = None
    if config.serial.mode is not SerialMode.OFF:
        serial = vm.serial(layout.SERIAL_PORT, layout.SERIAL_GSI)
        by_id["__serial"] = serial
    return Platform(serial=serial, ged=ged, debug_port=debug_port, by_id=by_id)


def plug_in(vm: Vm, installed: Sequence[Installed], by_id: dict[str, Device]) -> None:
    """Make the PCI devices, and enter each under its id."""
    for wanted, backend in installed:
        place = Place(
            bus=by_id["__pci"],
            id=wanted.id,
            slot=wanted.slot,
            bar=layout.PCI_WINDOW_START + wanted.slot * layout.PCI_BAR_SIZE,
        )
        with device_errors(wanted.id, wanted.pointer):
            by_id[wanted.id] = backend.attach(vm, place)
