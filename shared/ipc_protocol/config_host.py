# SPDX-License-Identifier: Apache-2.0
"""``VmFile``: a VM as a file of the host describes it, with what the host does for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from ipc_protocol.config import MIB, VmConfig
from ipc_protocol.options import Options

__all__ = ["HostConfig", "HostConsole", "TapMaker", "VmFile", "byte_count"]

Weight = Annotated[int, Meta(ge=1, le=10000)]
Bandwidth = Annotated[dict[str, Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]], Meta(max_length=64)]
_SLACK = 256 * MIB
"""For the monitor itself and the kernel's pages of its files, beyond the guest's RAM."""


class HostConsole(StrEnum):
    """Where the host keeps what the guest says."""

    JOURNAL = "journal"
    """What goes to the worker's terminal (mode ``Tty``) is in the unit's journal, as lines of
    ``velum-console``; the serial port goes there unless the configuration says otherwise."""


class TapMaker(StrEnum):
    """Who makes the taps that the configuration names and the host does not have."""

    WORKER = "worker"
    """The worker, which then needs CAP_NET_ADMIN."""
    PREPARE = "prepare"
    """``prepare-vm``, before the worker starts; they belong to the VM's user, and are removed
    when the worker ends."""


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the init system and the worker do for the VM, of which the guest sees nothing."""

    autostart: bool = True
    """Boot the VM when its worker starts; else it is created only."""
    restart: bool = True
    """Boot the VM again when its worker is there again after a crash; else it is created only."""
    console: HostConsole | None = None
    taps: TapMaker = TapMaker.WORKER
    memory_max: Annotated[str, Meta(max_length=20)] | None = None
    """Bytes, or with a suffix K, M or G; the guest's RAM and 256 MiB when not given."""
    cpu_quota: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Percent of one CPU; 100 for each vCPU and 100 more when not given."""
    cpu_weight: Weight | None = None
    """The VM's share where CPU time is short; 100 is everybody's."""
    io_weight: Weight | None = None
    """The same of the disks' time."""
    io_read_bandwidth_max: Bandwidth | None = None
    """Bytes per second, by block device or by a file on it."""
    io_write_bandwidth_max: Bandwidth | None = None
    """The same of what is written."""
    tasks_max: Annotated[int, Meta(ge=16, le=4_194_304)] | None = None
    """Threads."""


class VmFile(VmConfig, frozen=True, forbid_unknown_fields=True):
    """A file in ``/etc/velum/vms``: the body of ``vm.create``, and ``host`` beside it."""

    host: HostConfig = HostConfig()

    @property
    def config(self) -> VmConfig:
        """The VM by itself, as ``vm.create`` takes it.

        Without the addresses of taps that have them already: a worker that may not set them may
        not ask for them either.
        """
        fields = {name: getattr(self, name) for name in VmConfig.__struct_fields__}
        if self.host.taps is TapMaker.PREPARE:
            replace = msgspec.structs.replace
            fields["net"] = tuple(replace(each, ip=None, mask=None) for each in self.net)
        return VmConfig(**fields)

    @property
    def memory_max(self) -> int:
        """Bytes that the worker and its guest may have."""
        if self.host.memory_max is None:
            return self.memory.size + _SLACK
        return byte_count(self.host.memory_max)

    @property
    def cpu_quota(self) -> int:
        """Percent of one CPU."""
        return self.host.cpu_quota or 100 * (self.cpus.max_vcpus + 1)


def byte_count(text: str) -> int:
    """Return what ``memory_max`` says.

    Raises:
        OptionError: It is no size.
    """
    return Options({"memory_max": text or "-"}, frozenset()).size("memory_max") or 0
