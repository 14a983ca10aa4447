# SPDX-License-Identifier: Apache-2.0
"""The mechanism of a virtual machine on KVM: a thin typed wrapper around the C core."""

from kvm_shim.device import DebugPort, Device, Ged, Serial
from kvm_shim.errors import ShimError
from kvm_shim.host import probe_host, supported_cpuid
from kvm_shim.shim import Vm
from kvm_shim.values import (
    Boot,
    BootStamp,
    CoreScope,
    Counters,
    CpuidEntry,
    Event,
    EventKind,
    GedFlag,
    Host,
    MemoryFlag,
    Registers,
    Space,
)

__all__ = [
    "Boot",
    "BootStamp",
    "CoreScope",
    "Counters",
    "CpuidEntry",
    "DebugPort",
    "Device",
    "Event",
    "EventKind",
    "Ged",
    "GedFlag",
    "Host",
    "MemoryFlag",
    "Registers",
    "Serial",
    "ShimError",
    "Space",
    "Vm",
    "probe_host",
    "supported_cpuid",
]
