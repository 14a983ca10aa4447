# SPDX-License-Identifier: Apache-2.0
"""The operations a worker answers, with the type of each request and result."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ipc_protocol.codec import prepare
from ipc_protocol.config import MemorySize, VcpuCount, VmConfig
from ipc_protocol.config_devices import (
    BalloonSize,
    DiskConfig,
    NetConfig,
    PmemConfig,
    VsockConfig,
)
from ipc_protocol.jobs import JobCancel, JobInfo, JobState
from ipc_protocol.metrics import IpcMetrics, OperationMetrics, ProcessMetrics
from ipc_protocol.monitor import MAX_WAIT_MS, EventBatch, EventsQuery

__all__ = [
    "SIGNATURES",
    "Operation",
    "Signature",
    "VmCounters",
    "VmInfo",
    "VmRemoveDevice",
    "VmResize",
    "VmState",
    "VmmPing",
    "WorkerMetrics",
]


class Operation(StrEnum):
    """Names as in the HTTP path below ``/api/v1``."""

    VMM_PING = "vmm.ping"
    VMM_SHUTDOWN = "vmm.shutdown"
    VMM_METRICS = "vmm.metrics"
    VMM_EVENTS = "vmm.events"
    VMM_JOBS = "vmm.jobs"
    VMM_CANCEL = "vmm.cancel"
    VM_CREATE = "vm.create"
    VM_BOOT = "vm.boot"
    VM_INFO = "vm.info"
    VM_COUNTERS = "vm.counters"
    VM_PAUSE = "vm.pause"
    VM_RESUME = "vm.resume"
    VM_SHUTDOWN = "vm.shutdown"
    VM_REBOOT = "vm.reboot"
    VM_DELETE = "vm.delete"
    VM_POWER_BUTTON = "vm.power-button"
    VM_NMI = "vm.nmi"
    VM_RESIZE = "vm.resize"
    VM_ADD_DISK = "vm.add-disk"
    VM_ADD_NET = "vm.add-net"
    VM_ADD_PMEM = "vm.add-pmem"
    VM_ADD_VSOCK = "vm.add-vsock"
    VM_REMOVE_DEVICE = "vm.remove-device"


class VmState(StrEnum):
    """What ``vm.info`` calls the state."""

    CREATED = "Created"
    RUNNING = "Running"
    SHUTDOWN = "Shutdown"
    PAUSED = "Paused"


class VmmPing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers: ``vmm.ping``."""

    build_version: str
    version: str
    pid: int
    features: tuple[str, ...]
    protocol: int = 2
    """The newest version of the protocol between the processes that it speaks (an addition of
    Velum's); one that does not tell speaks 2."""


class GuestStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Why the guest last stopped running by itself, or how it crashed (an addition of Velum's)."""

    reason: str
    """``power_off``, ``reset``, ``triple_fault``, ``internal_error`` or ``panic``."""
    source: str
    """The id of the device, its name, or the part of KVM that saw it."""
    time: float
    """Seconds since the epoch."""
    detail: str = ""
    """For people: KVM's suberror and the registers, where there are any."""


class VmInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``vm.info``: configuration with its defaults filled, state, memory."""

    config: VmConfig
    state: VmState
    memory_actual_size: int
    """Bytes of RAM the guest has."""
    boots: int = 0
    """How often the VM was booted, guest reboots included (an addition of Velum's)."""
    last_stop: GuestStop | None = None
    last_panic: GuestStop | None = None
    """The crash that the guest's kernel reported since its last boot; it may run on."""


class VmResize(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``vm.resize``; what is not given stays as it is."""

    desired_vcpus: VcpuCount | None = None
    desired_ram: MemorySize | None = None
    """Bytes."""
    desired_balloon: BalloonSize | None = None
    """Bytes that the guest is asked to give up."""


class VmRemoveDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``vm.remove-device``."""

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    """As ``vm.info`` shows it."""


VmCounters = dict[str, dict[str, int]]
"""``vm.counters``: device id -> counter name -> value."""


class WorkerMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``vmm.metrics``: what the worker and its VM did and use since their start.

    An operation among the processes: over HTTP it is part of what Prometheus is told.
    """

    process: ProcessMetrics
    ipc: IpcMetrics
    operations: dict[Operation, OperationMetrics]
    """Those that were asked for."""
    jobs: dict[JobState, int]
    """How many wait and run now; how many succeeded, failed and were cancelled so far."""
    counters: VmCounters
    """As ``vm.counters`` has them; none while the VM is not booted."""
    state: VmState | None = None
    """``None`` while there is no VM."""
    boots: int = 0
    """How often the VM was booted, guest reboots included."""
    memory_actual_size: int = 0
    """Bytes of RAM that the guest has."""
    memory_resident: int = 0
    """Bytes of it that are in the host's RAM: what the process has had more since the boot."""


class Signature(NamedTuple):
    """What an operation takes and gives; ``None`` is nothing."""

    request: type | None
    result: object
    reads: bool
    """True when it changes nothing and is answered whatever else is running."""
    timeout: float
    """Seconds a caller waits when it sets no deadline of its own."""
    at_once: bool = False
    """True when it is answered whatever else is running although it changes something."""

    @property
    def is_job(self) -> bool:
        """Whether it waits for its turn, and is one of ``vmm.jobs``."""
        return not (self.reads or self.at_once)


SIGNATURES: dict[Operation, Signature] = {
    Operation.VMM_PING: Signature(None, VmmPing, reads=True, timeout=5.0),
    Operation.VMM_SHUTDOWN: Signature(None, None, reads=False, timeout=30.0),
    Operation.VMM_METRICS: Signature(None, WorkerMetrics, reads=True, timeout=5.0),
    Operation.VMM_EVENTS: Signature(
        EventsQuery, EventBatch, reads=True, timeout=MAX_WAIT_MS / 1000 + 5.0
    ),
    Operation.VMM_JOBS: Signature(None, tuple[JobInfo, ...], reads=True, timeout=5.0),
    Operation.VMM_CANCEL: Signature(JobCancel, None, reads=False, timeout=5.0, at_once=True),
    Operation.VM_CREATE: Signature(VmConfig, None, reads=False, timeout=10.0),
    Operation.VM_BOOT: Signature(None, None, reads=False, timeout=60.0),
    Operation.VM_INFO: Signature(None, VmInfo, reads=True, timeout=5.0),
    Operation.VM_COUNTERS: Signature(None, VmCounters, reads=True, timeout=5.0),
    Operation.VM_PAUSE: Signature(None, None, reads=False, timeout=10.0),
    Operation.VM_RESUME: Signature(None, None, reads=False, timeout=10.0),
    Operation.VM_SHUTDOWN: Signature(None, None, reads=False, timeout=30.0),
    Operation.VM_REBOOT: Signature(None, None, reads=False, timeout=60.0),
    Operation.VM_DELETE: Signature(None, None, reads=False, timeout=30.0),
    Operation.VM_POWER_BUTTON: Signature(None, None, reads=False, timeout=10.0),
    Operation.VM_NMI: Signature(None, None, reads=False, timeout=10.0),
    Operation.VM_RESIZE: Signature(VmResize, None, reads=False, timeout=10.0),
    Operation.VM_ADD_DISK: Signature(DiskConfig, None, reads=False, timeout=10.0),
    Operation.VM_ADD_NET: Signature(NetConfig, None, reads=False, timeout=10.0),
    Operation.VM_ADD_PMEM: Signature(PmemConfig, None, reads=False, timeout=10.0),
    Operation.VM_ADD_VSOCK: Signature(VsockConfig, None, reads=False, timeout=10.0),
    Operation.VM_REMOVE_DEVICE: Signature(VmRemoveDevice, None, reads=False, timeout=10.0),
}

prepare(*(each for one in SIGNATURES.values() for each in (one.request, one.result)))
