# SPDX-License-Identifier: Apache-2.0
"""``VmConfig``: what a VM is made of, field for field as Cloud Hypervisor's API has it.

Only what is acted on is here and in ``ipc_protocol.config_devices``, each field with the
range it may have by itself; rules between fields are in ``ipc_protocol.rules``. Names of
the specification that are not built yet are in ``ipc_protocol.unsupported`` and are
refused by name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from ipc_protocol.config_devices import (
    MAX_PCI_DEVICES,
    BalloonConfig,
    ConsoleConfig,
    DiskConfig,
    NetConfig,
    Path,
    PmemConfig,
    RateLimitGroupConfig,
    RngConfig,
    SerialConfig,
    VsockConfig,
)

__all__ = [
    "CoreScheduling",
    "CpuAffinity",
    "CpuTopology",
    "CpusConfig",
    "LandlockAccess",
    "LandlockConfig",
    "MemoryConfig",
    "MemorySize",
    "PayloadConfig",
    "VcpuCount",
    "VmConfig",
]

KIB = 1 << 10
MIB = 1 << 20

VcpuCount = Annotated[int, Meta(ge=1, le=254)]
"""8-bit APIC ids, of which 255 is the broadcast and one the I/O APIC's."""

MemorySize = Annotated[int, Meta(ge=2 * MIB, multiple_of=4 * KIB)]
"""Bytes; a kernel is loaded at 1 MiB and needs some room above it."""


class CpuTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the vCPUs are arranged; the product of all four is ``max_vcpus``."""

    threads_per_core: Annotated[int, Meta(ge=1, le=2)]
    cores_per_die: VcpuCount
    dies_per_package: VcpuCount
    packages: VcpuCount


class CpuAffinity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The host's CPUs that one vCPU may run on."""

    vcpu: Annotated[int, Meta(ge=0, le=253)]
    host_cpus: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=65535)], ...], Meta(min_length=1, max_length=4096)
    ]


class CoreScheduling(StrEnum):
    """Who may run on the other hardware threads of a core while a vCPU runs on one."""

    VM = "Vm"
    """The vCPUs of the same VM."""
    VCPU = "Vcpu"
    """Nobody."""
    OFF = "Off"
    """Whoever the host puts there."""


class CpusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vCPUs."""

    boot_vcpus: VcpuCount
    """vCPUs present at boot."""
    max_vcpus: VcpuCount
    """At least ``boot_vcpus``; more are for hotplug."""
    topology: CpuTopology | None = None
    max_phys_bits: Annotated[int, Meta(ge=32, le=52)] = 46
    """Upper bound of the guest's physical address width."""
    affinity: Annotated[tuple[CpuAffinity, ...], Meta(max_length=254)] = ()
    """Of the vCPUs that are not named, any CPU."""
    nested: bool = True
    """Let the guest run guests of its own, where the host's KVM can."""
    core_scheduling: CoreScheduling = CoreScheduling.VM
    """Where the host's kernel cannot do it the VM runs without, and the log says so."""


class MemoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The guest's RAM. It is never merged by KSM."""

    size: MemorySize
    mergeable: bool = False
    """Only false is possible: merging pages across guests leaks what is in them."""
    shared: bool = False
    """On memfds, so that other processes can map it too."""
    hugepages: bool = False
    hugepage_size: Annotated[int, Meta(ge=2 * MIB)] | None = None
    """Bytes, with ``hugepages``; the host's default size when not given."""
    prefault: bool = False
    reserve: bool = False
    """Have the host set the pages aside at boot, so that none can be missing later."""
    thp: bool = True


class PayloadConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the guest starts with; paths are the worker's."""

    kernel: Path | None = None
    """A bzImage, or an ELF image with a PVH note."""
    cmdline: Annotated[str, Meta(max_length=64 * KIB)] | None = None
    initramfs: Path | None = None


class LandlockAccess(StrEnum):
    """What the worker may do with files."""

    READ = "r"
    WRITE = "w"
    BOTH = "rw"


class LandlockConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the worker may open beyond what the rest of the configuration names."""

    path: Path
    """A file, or a directory for everything below it."""
    access: LandlockAccess
    """To write in a directory is to make and remove files too."""


class VmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``vm.create``."""

    payload: PayloadConfig
    cpus: CpusConfig = CpusConfig(boot_vcpus=1, max_vcpus=1)
    memory: MemoryConfig = MemoryConfig(size=512 * MIB)
    serial: SerialConfig = SerialConfig()
    console: ConsoleConfig = ConsoleConfig()
    rate_limit_groups: Annotated[tuple[RateLimitGroupConfig, ...], Meta(max_length=64)] = ()
    disks: Annotated[tuple[DiskConfig, ...], Meta(max_length=MAX_PCI_DEVICES)] = ()
    net: Annotated[tuple[NetConfig, ...], Meta(max_length=MAX_PCI_DEVICES)] = ()
    rng: RngConfig = RngConfig()
    pmem: Annotated[tuple[PmemConfig, ...], Meta(max_length=MAX_PCI_DEVICES)] = ()
    vsock: VsockConfig | None = None
    balloon: BalloonConfig | None = None
    watchdog: bool = False
    """Reset the VM when the guest's watchdog daemon, once begun, no longer comes by."""
    pvpanic: bool = False
    """A device by which the guest's kernel reports its own crash."""
    landlock_enable: bool = False
    """From the first boot on, the worker can open nothing but what the configuration names, until
    the worker ends."""
    landlock_rules: Annotated[tuple[LandlockConfig, ...], Meta(max_length=256)] = ()
    """With ``landlock_enable``, what may be opened beside that."""
