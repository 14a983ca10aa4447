# SPDX-License-Identifier: Apache-2.0
"""``VmConfig``: what a VM is made of, field for field as Cloud Hypervisor's API has it.

Only what is acted on is here. Names of the specification that are not built yet are in
``ipc_protocol.validation``, which refuses them by name.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "CpuTopology",
    "CpusConfig",
    "MemoryConfig",
    "PayloadConfig",
    "SerialConfig",
    "SerialMode",
    "VmConfig",
]

MIB = 1 << 20


class CpuTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the vCPUs are arranged; the product of all four is ``max_vcpus``."""

    threads_per_core: int
    cores_per_die: int
    dies_per_package: int
    packages: int


class CpusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """The vCPUs."""

    boot_vcpus: int
    """vCPUs present at boot, 1 to 254."""
    max_vcpus: int
    """At least ``boot_vcpus``; more are for hotplug."""
    topology: CpuTopology | None = None
    max_phys_bits: int = 46
    """Upper bound of the guest's physical address width, 32 to 52."""


class MemoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The guest's RAM. It is always on memfds and never merged by KSM."""

    size: int
    """Bytes, a multiple of 4096."""
    mergeable: bool = False
    """Only false is possible: merging pages across guests leaks what is in them."""
    shared: bool = False
    hugepages: bool = False
    prefault: bool = False
    thp: bool = True


class PayloadConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the guest starts with; paths are the worker's."""

    kernel: str | None = None
    """A bzImage, or an ELF image with a PVH note."""
    cmdline: str | None = None
    initramfs: str | None = None


class SerialMode(StrEnum):
    """Where the serial port goes."""

    OFF = "Off"
    PTY = "Pty"
    TTY = "Tty"
    FILE = "File"
    SOCKET = "Socket"
    NULL = "Null"


class SerialConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """COM1."""

    mode: SerialMode = SerialMode.NULL
    file: str | None = None
    """For ``File``: written from the start. For ``Pty``, in ``vm.info``: its path."""
    socket: str | None = None
    """For ``Socket``: the path the worker listens on."""


class VmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``vm.create``."""

    payload: PayloadConfig
    cpus: CpusConfig = CpusConfig(boot_vcpus=1, max_vcpus=1)
    memory: MemoryConfig = MemoryConfig(size=512 * MIB)
    serial: SerialConfig = SerialConfig()
