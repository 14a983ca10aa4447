# SPDX-License-Identifier: Apache-2.0
"""Fields of Cloud Hypervisor's ``VmConfig`` that Velum does not have yet.

Each is listed with the values that ask for nothing, which may be given and are dropped:
clients send whole documents, defaults included. Where that specification's default asks
for something that is not there (an entropy device, a virtio console, core scheduling, a
guest that can run guests), it is not in the list: to accept it would be to promise it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

__all__ = ["UNSUPPORTED", "Node", "asks_for_nothing"]

Node: TypeAlias = "Mapping[str, Node] | tuple[object, ...]"
"""The fields of an object or of each element of an array, or the values of a field that ask
for nothing."""

_ABSENT: Final = (None,)
_OFF: Final = (None, False)
_EMPTY: Final[tuple[object, ...]] = (None, [])

UNSUPPORTED: Final[Mapping[str, Node]] = {
    "cpus": {
        "affinity": _EMPTY,
        "core_scheduling": (None, "Off"),
        "features": {"amx": _OFF},
        "kvm_hyperv": _OFF,
        "nested": _OFF,
        "profile": (None, "Host"),
    },
    "memory": {
        # How memory would be added; without a hotplug_size none ever is.
        "hotplug_method": (None, "Acpi"),
        "hotplug_size": (None, 0),
        "hotplugged_size": (None, 0),
        "hugepage_size": _ABSENT,
        "reserve": _OFF,
        "zones": _EMPTY,
    },
    "payload": {
        "firmware": _ABSENT,
        "fw_cfg_config": _ABSENT,
        "host_data": _ABSENT,
        "igvm": _ABSENT,
    },
    "serial": {
        # Older releases describe the serial port with the console's schema.
        "iommu": _OFF,
    },
    "balloon": {"iommu": _OFF},
    "console": {"iommu": _OFF},
    "debug_console": {"file": _ABSENT, "iobase": (None, 0xE9), "mode": ("Off",)},
    "devices": _EMPTY,
    "disks": {
        "backing_files": _OFF,
        "iommu": _OFF,
        "queue_affinity": _EMPTY,
        "vhost_socket": _ABSENT,
        "vhost_user": _OFF,
    },
    "fs": _EMPTY,
    "gdb": _OFF,
    "generic_vhost_user": _EMPTY,
    "iommu": _OFF,
    "ivshmem": _ABSENT,
    "landlock_enable": _OFF,
    "landlock_rules": _EMPTY,
    "net": {
        "fds": _EMPTY,
        "iommu": _OFF,
        "vhost_mode": (None, "Client"),
        "vhost_socket": _ABSENT,
        "vhost_user": _OFF,
    },
    "numa": _EMPTY,
    "pci_segments": _EMPTY,
    "platform": {
        "chassis_asset_tag": _ABSENT,
        "iommu_address_width_bits": (None, 64),
        "iommu_segments": _EMPTY,
        "iommufd": _OFF,
        "iommufd_fd": _ABSENT,
        "num_pci_segments": (None, 1),
        "oem_strings": _EMPTY,
        "serial_number": _ABSENT,
        "sev_snp": _OFF,
        "system_family": _ABSENT,
        "system_manufacturer": _ABSENT,
        "system_product_name": _ABSENT,
        "system_serial_number": _ABSENT,
        "system_sku_number": _ABSENT,
        "system_uuid": _ABSENT,
        "system_version": _ABSENT,
        "tdx": _OFF,
        "uuid": _ABSENT,
        # How VFIO devices would reach each other; there are none.
        "vfio_p2p_dma": (None, True),
    },
    "pmem": {"iommu": _OFF},
    "pvmemcontrol": _ABSENT,
    "rng": {"iommu": _OFF},
    "rtc": _ABSENT,
    "tpm": _ABSENT,
    "user_devices": _EMPTY,
    "vdpa": _EMPTY,
    "vsock": {"iommu": _OFF},
}


def asks_for_nothing(value: object, nothing: tuple[object, ...]) -> bool:
    """Tell whether a value is one of those; ``0`` is not ``false`` here."""
    return any(type(value) is type(each) and value == each for each in nothing)
