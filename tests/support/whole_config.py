# SPDX-License-Identifier: Apache-2.0
"""A configuration with every field of Cloud Hypervisor's, each with its default spelled out."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ADDITIONS", "whole_document"]

ADDITIONS: Final = frozenset(
    {
        "/balloon/statistics",
        "/net/vhost",
        "/rng/rate_limiter_config",
        "/rng/rate_limiter_config/bandwidth",
        "/rng/rate_limiter_config/bandwidth/one_time_burst",
        "/rng/rate_limiter_config/bandwidth/refill_time",
        "/rng/rate_limiter_config/bandwidth/size",
        "/rng/rate_limiter_config/ops",
        "/rng/rate_limiter_config/ops/one_time_burst",
        "/rng/rate_limiter_config/ops/refill_time",
        "/rng/rate_limiter_config/ops/size",
    }
)
"""Velum's own fields, by pointer; an element of an array has its array's."""

_PCI: Final = {"id": None, "iommu": False, "pci_segment": 0, "pci_device_id": None}
_BUCKET: Final = {"size": 1 << 30, "one_time_burst": None, "refill_time": 1000}
_LIMITER: Final = {"bandwidth": _BUCKET, "ops": _BUCKET}
_TEXTS: Final = (
    *("system_serial_number", "serial_number", "system_uuid", "uuid", "system_manufacturer"),
    *("system_product_name", "system_version", "system_family", "system_sku_number"),
    "chassis_asset_tag",
)
_LISTS: Final = (
    *("devices", "user_devices", "vdpa", "fs", "generic_vhost_user", "numa"),
    "pci_segments",
)


def whole_document(kernel: str, disk: str, pmem: str, socket: str) -> dict[str, Any]:
    """Return the document, as a client that leaves nothing to the server writes it.

    Args:
        kernel: What to boot.
        disk: An image.
        pmem: A file of a multiple of 2 MiB.
        socket: Where the vsock device's socket goes.
    """
    return {
        "cpus": {
            "boot_vcpus": 2,
            "max_vcpus": 2,
            "max_phys_bits": 46,
            "topology": {
                "threads_per_core": 1,
                "cores_per_die": 2,
                "dies_per_package": 1,
                "packages": 1,
            },
            "affinity": [{"vcpu": 0, "host_cpus": [0]}],
            "features": {"amx": False},
            "kvm_hyperv": False,
            "nested": True,
            "core_scheduling": "Vm",
            "profile": "Host",
        },
        "memory": {
            "size": 512 << 20,
            "mergeable": False,
            "hotplug_method": "Acpi",
            "hotplug_size": None,
            "hotplugged_size": None,
            "shared": False,
            "hugepages": False,
            "hugepage_size": None,
            "prefault": False,
            "reserve": False,
            "zones": None,
            "thp": True,
        },
        "payload": {
            "firmware": None,
            "kernel": kernel,
            "cmdline": "console=hvc0",
            "initramfs": None,
            "igvm": None,
            "host_data": None,
            "fw_cfg_config": None,
        },
        "rate_limit_groups": [{"id": "group", "rate_limiter_config": _LIMITER}],
        "disks": [
            {
                **_PCI,
                "path": disk,
                "readonly": False,
                "direct": False,
                "num_queues": 1,
                "queue_size": 128,
                "vhost_user": False,
                "vhost_socket": None,
                "rate_limit_group": None,
                "rate_limiter_config": _LIMITER,
                "serial": None,
                "queue_affinity": None,
                "backing_files": False,
                "sparse": True,
                "image_type": "Unknown",
                "lock_granularity": "ByteRange",
                "disable_io_uring": False,
                "disable_aio": False,
            }
        ],
        "net": [
            {
                **_PCI,
                "tap": None,
                "ip": "192.168.249.1",
                "mask": "255.255.255.0",
                "mac": None,
                "host_mac": None,
                "mtu": None,
                "num_queues": 2,
                "queue_size": 256,
                "vhost_user": False,
                "vhost_socket": None,
                "vhost_mode": "Client",
                "fds": None,
                "rate_limiter_config": _LIMITER,
                "offload_tso": True,
                "offload_ufo": True,
                "offload_csum": True,
            }
        ],
        "rng": {**_PCI, "src": "/dev/urandom"},
        "balloon": {**_PCI, "size": 0, "deflate_on_oom": False, "free_page_reporting": False},
        "pmem": [{**_PCI, "file": pmem, "size": None, "discard_writes": False}],
        "serial": {"mode": "Null", "file": None, "socket": None, "iommu": False},
        "console": {**_PCI, "mode": "Null", "file": None, "socket": None},
        "debug_console": {"mode": "Off", "file": None, "iobase": 0xE9},
        "vsock": {**_PCI, "cid": 3, "socket": socket},
        **dict.fromkeys(_LISTS),
        **dict.fromkeys(("rtc", "tpm", "ivshmem", "pvmemcontrol")),
        "landlock_rules": [{"path": disk, "access": "r"}],
        **dict.fromkeys(("pvpanic", "iommu", "watchdog", "landlock_enable", "gdb"), False),
        "platform": {
            "num_pci_segments": 1,
            "iommu_segments": None,
            "iommu_address_width_bits": 64,
            **dict.fromkeys(_TEXTS),
            "oem_strings": None,
            "iommufd": False,
            "iommufd_fd": None,
            "vfio_p2p_dma": True,
            "tdx": False,
            "sev_snp": False,
        },
    }
