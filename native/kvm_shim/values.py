# SPDX-License-Identifier: Apache-2.0
"""The values that go in and out of the C core."""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from kvm_shim._native import lib

__all__ = [
    "Boot",
    "BootStamp",
    "Buffer",
    "CoreScope",
    "Counters",
    "CpuidEntry",
    "Event",
    "EventKind",
    "GedFlag",
    "Host",
    "MemoryFlag",
    "Registers",
    "Space",
]


# `collections.abc.Buffer` comes with Python 3.12.
Buffer = bytes | bytearray | memoryview


class MemoryFlag(IntFlag):
    """How guest RAM is allocated."""

    HUGEPAGES = lib.KVMSHIM_MEMORY_HUGEPAGES
    THP = lib.KVMSHIM_MEMORY_THP
    SHARED = lib.KVMSHIM_MEMORY_SHARED
    RESERVE = lib.KVMSHIM_MEMORY_RESERVE

    @classmethod
    def huge(cls, size: int) -> "MemoryFlag":
        """Return the flags for huge pages of so many bytes, a power of two."""
        return cls.HUGEPAGES | cls((size.bit_length() - 1) << lib.KVMSHIM_MEMORY_HUGE_SHIFT)


class CoreScope(IntEnum):
    """Who may share a core of the host with a vCPU."""

    VM = lib.KVMSHIM_CORE_VM
    VCPU = lib.KVMSHIM_CORE_VCPU


class Space(IntEnum):
    """An address space of the bus."""

    PIO = lib.KVMSHIM_SPACE_PIO
    MMIO = lib.KVMSHIM_SPACE_MMIO


class GedFlag(IntFlag):
    """What the Generic Event Device tells the guest to look at."""

    CPU = lib.KVMSHIM_GED_CPU
    MEMORY = lib.KVMSHIM_GED_MEMORY
    PCI = lib.KVMSHIM_GED_PCI
    POWER = lib.KVMSHIM_GED_POWER


class EventKind(IntEnum):
    """What happened; the first five park every vCPU for good, after the others all goes on."""

    RESET = lib.KVMSHIM_EVENT_RESET
    POWER_OFF = lib.KVMSHIM_EVENT_POWER_OFF
    TRIPLE_FAULT = lib.KVMSHIM_EVENT_TRIPLE_FAULT
    INTERNAL_ERROR = lib.KVMSHIM_EVENT_INTERNAL_ERROR
    GUEST_PANIC = lib.KVMSHIM_EVENT_GUEST_PANIC
    SERIAL_HANGUP = lib.KVMSHIM_EVENT_SERIAL_HANGUP
    PANICKED = lib.KVMSHIM_EVENT_PANICKED
    DEVICE_LOG = lib.KVMSHIM_EVENT_DEVICE_LOG
    DEVICE_ACTIVATED = lib.KVMSHIM_EVENT_DEVICE_ACTIVATED
    DEVICE_RESET = lib.KVMSHIM_EVENT_DEVICE_RESET


class Host(NamedTuple):
    """What a KVM device offers."""

    api_version: int
    recommended_vcpus: int
    max_vcpus: int
    max_vcpu_id: int
    memory_slots: int


class CpuidEntry(NamedTuple):
    """One leaf of CPUID."""

    function: int
    index: int  # type: ignore[assignment]  # the field of the leaf, not the method of tuple
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


class Boot(NamedTuple):
    """Where the boot vCPU starts and where its tables go."""

    entry: int
    argument: int
    stack: int
    gdt: int
    page_tables: int


class Registers(NamedTuple):
    """The registers of a vCPU that a person wants to see."""

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rsp: int
    rbp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    efer: int
    cs: int
    ss: int


class Event(NamedTuple):
    """A rare event of a vCPU or a device.

    Attributes:
        kind: What happened.
        vcpu: The vCPU that it happened on, if any.
        time_ns: When, by CLOCK_MONOTONIC.
        detail: KVM's reason, and its exit reason or the errno of KVM_RUN; of PANICKED, the bits
            that the guest wrote.
        source: The device's name or id, or what of KVM.
        text: Of PANICKED and DEVICE_LOG: what to tell the operator.
        registers: Of INTERNAL_ERROR and TRIPLE_FAULT.
    """

    kind: EventKind
    vcpu: int | None
    time_ns: int
    detail: tuple[int, int]
    source: str
    text: str
    registers: Registers | None


class Counters(NamedTuple):
    """What one vCPU did so far.

    Attributes:
        exits: Exits by kind: io, mmio, hlt, interrupted, shutdown, system_event, error, other.
        unclaimed_io: Port accesses that no device claimed.
        unclaimed_mmio: MMIO accesses that no device claimed.
        first_run_ns: CLOCK_MONOTONIC of the first KVM_RUN; 0 before it.
        cpu_ns: CPU time of its thread, most of it the guest's.
    """

    exits: dict[str, int]
    unclaimed_io: int
    unclaimed_mmio: int
    first_run_ns: int
    cpu_ns: int


class BootStamp(NamedTuple):
    """A write to the debug port and its time by CLOCK_MONOTONIC."""

    time_ns: int
    code: int
