# SPDX-License-Identifier: Apache-2.0
"""The bodies of Cloud Hypervisor's requests that Velum has no machinery for yet.

As in ``ipc_protocol.config_unbuilt`` they are for the published schema; nothing reads them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from ipc_protocol.config_unbuilt import Number, Size

__all__ = [
    "MemoryMode",
    "MemoryRestoreMode",
    "ReceiveMigrationData",
    "RestoreConfig",
    "RestoredNetConfig",
    "SendMigrationData",
    "TimeoutStrategy",
    "VmCoredumpData",
    "VmResizeDisk",
    "VmResizeZone",
    "VmSnapshotConfig",
]


class VmResizeDisk(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``vm.resize-disk``."""

    id: str
    desired_size: Size
    """Bytes."""


class VmResizeZone(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``vm.resize-zone``."""

    id: str
    desired_ram: Size
    """Bytes."""


class VmSnapshotConfig(msgspec.Struct, frozen=True):
    """The body of ``vm.snapshot``."""

    destination_url: str
    """``file://`` and a directory that is there."""


class MemoryRestoreMode(StrEnum):
    """When a restored VM gets its memory."""

    COPY = "Copy"
    ON_DEMAND = "OnDemand"


class RestoredNetConfig(msgspec.Struct, frozen=True):
    """Descriptors that replace those of a network device."""

    id: str
    num_fds: Number


class RestoreConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``vm.restore``."""

    source_url: str
    """``file://`` and the directory of a snapshot."""
    prefault: bool = False
    memory_restore_mode: MemoryRestoreMode = MemoryRestoreMode.COPY
    net_fds: tuple[RestoredNetConfig, ...] | None = None
    resume: bool = False
    """Let it run at once; it is paused otherwise."""


class VmCoredumpData(msgspec.Struct, frozen=True):
    """The body of ``vm.coredump``."""

    destination_url: str
    """``file://`` and the file to write."""


class TimeoutStrategy(StrEnum):
    """What happens to a migration that takes too long."""

    CANCEL = "Cancel"
    IGNORE = "Ignore"


class MemoryMode(StrEnum):
    """Whether the guest moves before or after its memory."""

    PRECOPY = "Precopy"
    POSTCOPY = "Postcopy"


class SendMigrationData(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``vm.send-migration``."""

    destination_url: str
    """``tcp:host:port`` or ``unix:path``."""
    local: bool = False
    """Hand the memory over instead of copying it."""
    preserve_source: bool = False
    downtime_ms: Size = 300
    timeout_s: Size = 3600
    timeout_strategy: TimeoutStrategy = TimeoutStrategy.CANCEL
    connections: Annotated[int, Meta(ge=1, le=128)] = 1
    tls_dir: str | None = None
    memory_mode: MemoryMode = MemoryMode.PRECOPY


class ReceiveMigrationData(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``vm.receive-migration``."""

    receiver_url: str
    """Where to listen: ``tcp:host:port`` or ``unix:path``."""
    tls_dir: str | None = None
    memory_mode: MemoryMode = MemoryMode.PRECOPY
