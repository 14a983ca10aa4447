# SPDX-License-Identifier: Apache-2.0
"""What a KVM device offers, before there is a VM."""

import os

from kvm_shim._native import ffi, lib
from kvm_shim.handle import checked
from kvm_shim.values import CpuidEntry, Host

__all__ = ["DEFAULT_DEVICE", "probe_host", "supported_cpuid"]

DEFAULT_DEVICE = "/dev/kvm"

CPUID_ENTRIES_MAX = 4096


def probe_host(device: str = DEFAULT_DEVICE) -> Host:
    """Open the device and check everything that the shim needs of it.

    Raises:
        ShimError: It cannot be opened, is not KVM, or lacks capabilities (all are named).
    """
    host = ffi.new("kvmshim_host *")
    checked(lib.kvmshim_host_probe, os.fsencode(device), host)
    return Host(*(getattr(host, field) for field in Host._fields))


def supported_cpuid(device: str = DEFAULT_DEVICE) -> list[CpuidEntry]:
    """Return the CPUID leaves that KVM can give a guest on this host."""
    entries = ffi.new("kvmshim_cpuid_entry[]", CPUID_ENTRIES_MAX)
    count = ffi.new("uint32_t *")
    checked(lib.kvmshim_host_cpuid, os.fsencode(device), entries, CPUID_ENTRIES_MAX, count)
    return [
        CpuidEntry(*(getattr(entries[i], field) for field in CpuidEntry._fields))
        for i in range(count[0])
    ]
