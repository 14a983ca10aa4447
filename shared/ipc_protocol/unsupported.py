# SPDX-License-Identifier: Apache-2.0
"""Fields of Cloud Hypervisor's ``VmConfig`` that Velum does not have yet.

Each is listed with its type, with the values that ask for nothing, which may be given
and are dropped (clients send whole documents, defaults included), and with what is
missing for any other value, which is refused by name. The published schema is made from
this table and the types of ``ipc_protocol.config`` together.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import GenericAlias
from typing import Any, Final, NamedTuple, TypeAlias

from ipc_protocol.config_devices import Path, SerialMode

__all__ = ["UNSUPPORTED", "Node", "Unsupported"]


class Unsupported(NamedTuple):
    """A field that is known and not built."""

    named: Any
    """Its type, or the name of one in ``ipc_protocol.config_unbuilt``, which a worker need not
    load to refuse it; of an array, its elements'."""
    nothing: tuple[object, ...]
    """The values that ask for nothing; the first is the specification's default."""
    lacks: str
    """What another value would need, to follow on "there is no"."""
    many: bool = False
    """Whether it is an array."""

    @property
    def kind(self) -> Any:
        """The type of the field, as msgspec has types."""
        named = self.named
        if isinstance(named, str):
            named = getattr(import_module("ipc_protocol.config_unbuilt"), named)
        return GenericAlias(tuple, (named, ...)) if self.many else named

    def asks(self, value: object) -> bool:
        """Tell whether a value asks for something; ``0`` is not ``false`` here."""
        return not any(type(value) is type(each) and value == each for each in self.nothing)


Node: TypeAlias = "Mapping[str, Node] | Unsupported"
"""The fields of an object or of each element of an array, or what there is to one field."""


def _off(lacks: str) -> Unsupported:
    return Unsupported(bool, (False, None), lacks)


def _absent(kind: Any, lacks: str) -> Unsupported:
    return Unsupported(kind, (None,), lacks)


def _empty(kind: Any, lacks: str) -> Unsupported:
    return Unsupported(kind, ([], None), lacks, many=True)


def _default(kind: Any, value: object, lacks: str) -> Unsupported:
    return Unsupported(kind, (value, None), lacks)


_IOMMU: Final = {"iommu": _off("virtual IOMMU")}
_HOTPLUG: Final = "memory hotplug"
_VHOST_USER: Final = "vhost-user"
_VHOST: Final[Mapping[str, Node]] = {
    "vhost_socket": _absent(Path, _VHOST_USER),
    "vhost_user": _off(_VHOST_USER),
}
_SMBIOS: Final = "SMBIOS table"
_CONFIDENTIAL: Final = "confidential guest (TDX, SEV-SNP, IGVM)"

UNSUPPORTED: Final[Mapping[str, Node]] = {
    "cpus": {
        "features": {"amx": _off("AMX in guests")},
        "kvm_hyperv": _off("Hyper-V interface for guests"),
        "profile": _default(str, "Host", "CPU profile but the host's own"),
    },
    "memory": {
        "hotplug_method": _default("HotplugMethod", "Acpi", _HOTPLUG),
        "hotplug_size": Unsupported("Size", (None, 0), _HOTPLUG),
        "hotplugged_size": Unsupported("Size", (None, 0), _HOTPLUG),
        "zones": _empty("MemoryZoneConfig", "memory zone"),
    },
    "payload": {
        "firmware": _absent(Path, "firmware boot"),
        "fw_cfg_config": _absent("FwCfgConfig", "fw_cfg device"),
        "host_data": _absent(str, _CONFIDENTIAL),
        "igvm": _absent(Path, _CONFIDENTIAL),
    },
    # Older releases describe the serial port with the console's schema.
    "serial": _IOMMU,
    "balloon": _IOMMU,
    "console": _IOMMU,
    "debug_console": {
        "file": _absent(Path, "debug console"),
        "iobase": _default("Short", 0xE9, "debug console"),
        "mode": Unsupported(SerialMode, ("Off",), "debug console"),
    },
    "devices": _empty("DeviceConfig", "VFIO"),
    "disks": {
        "backing_files": _off("image format with backing files"),
        "queue_affinity": _empty("VirtQueueAffinity", "affinity for a disk's threads"),
        **_IOMMU,
        **_VHOST,
    },
    "fs": _empty("FsConfig", "shared directory (virtio-fs)"),
    "gdb": _off("GDB server"),
    "generic_vhost_user": _empty("GenericVhostUserConfig", _VHOST_USER),
    "iommu": _off("virtual IOMMU"),
    "ivshmem": _absent("IvshmemConfig", "ivshmem device"),
    "net": {
        "fds": _empty(int, "way to hand over descriptors"),
        "vhost_mode": _default("VhostMode", "Client", _VHOST_USER),
        **_IOMMU,
        **_VHOST,
    },
    "numa": _empty("NumaConfig", "NUMA for guests"),
    "pci_segments": _empty("PciSegmentConfig", "PCI segment but 0"),
    "platform": {
        "chassis_asset_tag": _absent(str, _SMBIOS),
        "iommu_address_width_bits": _default("Byte", 64, "virtual IOMMU"),
        "iommu_segments": _empty("Short", "virtual IOMMU"),
        "iommufd": _off("VFIO"),
        "iommufd_fd": _absent(int, "VFIO"),
        "num_pci_segments": _default("Short", 1, "PCI segment but 0"),
        "oem_strings": _empty(str, _SMBIOS),
        "serial_number": _absent(str, _SMBIOS),
        "sev_snp": _off(_CONFIDENTIAL),
        "system_family": _absent(str, _SMBIOS),
        "system_manufacturer": _absent(str, _SMBIOS),
        "system_product_name": _absent(str, _SMBIOS),
        "system_serial_number": _absent(str, _SMBIOS),
        "system_sku_number": _absent(str, _SMBIOS),
        "system_uuid": _absent(str, _SMBIOS),
        "system_version": _absent(str, _SMBIOS),
        "tdx": _off(_CONFIDENTIAL),
        "uuid": _absent(str, _SMBIOS),
        # How VFIO devices would reach each other; there are none.
        "vfio_p2p_dma": _default(bool, True, "VFIO"),  # noqa: FBT003 - its default
    },
    "pmem": _IOMMU,
    "pvmemcontrol": _absent("PvmemcontrolConfig", "pvmemcontrol device"),
    "rng": _IOMMU,
    "rtc": _absent("RtcConfig", "virtio clock (the CMOS clock is always there)"),
    "tpm": _absent("TpmConfig", "TPM"),
    "user_devices": _empty("UserDeviceConfig", "vfio-user"),
    "vdpa": _empty("VdpaConfig", "vDPA"),
    "vsock": _IOMMU,
}
