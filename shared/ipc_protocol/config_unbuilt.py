# SPDX-License-Identifier: Apache-2.0
"""The parts of Cloud Hypervisor's ``VmConfig`` that Velum has no machinery for yet.

They are types so that the published schema is whole and clients made from it keep
compiling; a value of any of them is refused by name (``ipc_protocol.unsupported``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from ipc_protocol.config_devices import Path, PciFields

__all__ = [
    "DeviceConfig",
    "FsConfig",
    "FwCfgConfig",
    "GenericVhostUserConfig",
    "HotplugMethod",
    "IvshmemConfig",
    "MemoryZoneConfig",
    "NumaConfig",
    "NumaDistance",
    "Number",
    "PciSegmentConfig",
    "PvmemcontrolConfig",
    "RtcConfig",
    "Size",
    "TpmConfig",
    "UserDeviceConfig",
    "VdpaConfig",
    "VhostMode",
    "VirtQueueAffinity",
]

Size = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Short = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
Byte = Annotated[int, Meta(ge=0, le=255)]


class _IommuFields(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    iommu: bool = False
    """Behind the virtual IOMMU."""


class HotplugMethod(StrEnum):
    """How memory would be added to a running VM."""

    ACPI = "Acpi"
    VIRTIO_MEM = "VirtioMem"


class MemoryZoneConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """A part of the RAM with a backing of its own."""

    id: str
    size: Size
    file: Path | None = None
    mergeable: bool = False
    shared: bool = False
    hugepages: bool = False
    hugepage_size: Size | None = None
    host_numa_node: Number | None = None
    hotplug_size: Size | None = None
    hotplugged_size: Size | None = None
    prefault: bool = False
    reserve: bool = False


class VirtQueueAffinity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The host's CPUs that may run the thread of a disk's queue."""

    queue_index: Short
    host_cpus: tuple[Number, ...]


class VhostMode(StrEnum):
    """Which end of a vhost-user socket listens."""

    CLIENT = "Client"
    SERVER = "Server"


class FsConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A directory of the host, served by virtiofsd."""

    tag: str
    socket: Path
    num_queues: Short = 1
    queue_size: Short = 1024


class GenericVhostUserConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Any virtio device whose back end is another process."""

    socket: Path
    queue_sizes: tuple[Short, ...]
    device_type: Number


class DeviceConfig(_IommuFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device of the host, by VFIO."""

    path: Path | None = None
    x_nv_gpudirect_clique: Byte | None = None
    x_exclude_mmap_bars: tuple[Size, ...] = ()


class UserDeviceConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PCI device that another process emulates, by vfio-user."""

    socket: Path


class VdpaConfig(_IommuFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A virtio device of the host's hardware, by vDPA."""

    path: Path
    num_queues: Short = 1


class RtcConfig(_IommuFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The virtio clock; the CMOS clock is always there."""


class NumaDistance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far one NUMA node is from another."""

    destination: Number
    distance: Byte


class NumaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A NUMA node of the guest."""

    guest_numa_id: Number
    cpus: tuple[Number, ...] = ()
    distances: tuple[NumaDistance, ...] = ()
    memory_zones: tuple[str, ...] = ()
    pci_segments: tuple[Short, ...] = ()
    device_id: str | None = None


class PciSegmentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PCI segment's share of the address space."""

    pci_segment: Short
    mmio32_aperture_weight: Number = 1
    mmio64_aperture_weight: Number = 1


class TpmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TPM that swtpm emulates."""

    socket: Path


class IvshmemConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory that guests share."""

    path: Path
    size: Size


class PvmemcontrolConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device by which the guest advises the host on its memory."""


class FwCfgConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """What firmware is told through the fw_cfg device."""

    e820: bool = True
    kernel: bool = True
    cmdline: bool = True
    initramfs: bool = True
    acpi_tables: bool = True
