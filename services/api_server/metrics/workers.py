# SPDX-License-Identifier: Apache-2.0
"""What the workers say of themselves and of their VMs, as metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from api_server.metrics.counters import (
    BOOT,
    DEVICE,
    QUEUE,
    VCPU_EXITS,
    VCPU_SECONDS,
    VCPU_UNCLAIMED,
    Told,
)
from api_server.metrics.families import Families
from ipc_protocol.jobs import JobState
from ipc_protocol.messages import VmState, WorkerMetrics

__all__ = ["tell_worker", "tell_workers"]

_QUEUE_COUNTER: Final = re.compile(r"queue(\d+)_(\w+)")
_VCPU: Final = re.compile(r"__vcpu(\d+)")
_NO_VM: Final = "Absent"


def tell_workers(answers: Mapping[str, object]) -> Families:
    """Return the metrics of all workers.

    Args:
        answers: By name of the VM, what its worker answered, or why it did not.
    """
    families = Families()
    for vm, answer in answers.items():
        up = isinstance(answer, WorkerMetrics)
        families.gauge("velum_worker_up", "Whether the worker answers.", {"vm": vm}, up)
        if isinstance(answer, WorkerMetrics):
            tell_worker(families, vm, answer)
    return families


def tell_worker(families: Families, vm: str, metrics: WorkerMetrics) -> None:
    """Add what one worker says."""
    _tell_process(families, vm, metrics)
    _tell_operations(families, vm, metrics)
    _tell_jobs(families, vm, metrics)
    _tell_vm(families, vm, metrics)
    for device, counters in metrics.counters.items():
        vcpu = _VCPU.fullmatch(device)
        if vcpu is not None:
            _tell_vcpu(families, {"vm": vm, "vcpu": vcpu[1]}, counters)
        elif device == "__boot":
            for stage, value in counters.items():
                _tell(families, BOOT, {"vm": vm, "stage": stage.removesuffix("_us")}, value)
        else:
            _tell_device(families, {"vm": vm, "device": device}, counters)


def _tell_process(families: Families, vm: str, metrics: WorkerMetrics) -> None:
    labels = {"vm": vm}
    process, ipc = metrics.process, metrics.ipc
    families.gauge(
        "velum_worker_start_time_seconds",
        "When the worker was started, since the epoch.",
        labels,
        process.start_time,
    )
    families.counter(
        "velum_worker_cpu_seconds",
        "CPU time of the worker, its guest included.",
        labels,
        process.cpu_seconds,
    )
    families.gauge(
        "velum_worker_resident_bytes",
        "RAM of the host that the worker uses, its guest included.",
        labels,
        process.resident_bytes,
    )
    families.gauge(
        "velum_worker_open_descriptors",
        "File descriptors that the worker has open.",
        labels,
        process.open_descriptors,
    )
    families.gauge("velum_worker_threads", "Threads of the worker.", labels, process.threads)
    for outcome in ("refused", "dropped", "undelivered"):
        families.counter(
            "velum_worker_ipc_failures",
            "Messages refused before they became a request or dropped, replies nobody took.",
            {"vm": vm, "outcome": outcome},
            getattr(ipc, outcome),
        )
    families.gauge(
        "velum_worker_ipc_connections",
        "Connections to the worker.",
        labels,
        ipc.connections,
    )
    for reason, count in ipc.ended.items():
        families.counter(
            "velum_worker_ipc_connections_ended",
            "Connections that the worker refused or ended, by what was wrong with them.",
            {"vm": vm, "reason": reason},
            count,
        )


def _tell_operations(families: Families, vm: str, metrics: WorkerMetrics) -> None:
    for operation, measured in metrics.operations.items():
        labels = {"vm": vm, "operation": str(operation)}
        families.histogram(
            "velum_worker_operation_seconds",
            "From a request's arrival at the worker to its answer.",
            labels,
            measured.latency,
        )
        for code, count in measured.errors.items():
            families.counter(
                "velum_worker_operation_errors",
                "Operations that failed, by reason.",
                {**labels, "code": str(code)},
                count,
            )


def _tell_jobs(families: Families, vm: str, metrics: WorkerMetrics) -> None:
    for state, count in metrics.jobs.items():
        labels = {"vm": vm, "state": str(state)}
        if state in (JobState.QUEUED, JobState.RUNNING):
            families.gauge("velum_worker_jobs", "Jobs that wait or run.", labels, count)
        else:
            families.counter("velum_worker_jobs_ended", "Jobs by how they ended.", labels, count)


def _tell_vm(families: Families, vm: str, metrics: WorkerMetrics) -> None:
    for state in (_NO_VM, *VmState):
        families.gauge(
            "velum_vm_state",
            "1 for the state of the VM; it is Absent before vm.create and after vm.delete.",
            {"vm": vm, "state": state},
            (metrics.state or _NO_VM) == state,
        )
    labels = {"vm": vm}
    families.counter(
        "velum_vm_boots",
        "How often the VM was booted, guest reboots included.",
        labels,
        metrics.boots,
    )
    families.gauge(
        "velum_vm_memory_bytes", "RAM that the guest has.", labels, metrics.memory_actual_size
    )
    families.gauge(
        "velum_vm_memory_resident_bytes",
        "RAM of the host in which the guest's is; what else the worker grew counts as well.",
        labels,
        metrics.memory_resident,
    )


def _tell_vcpu(families: Families, labels: dict[str, str], counters: Mapping[str, int]) -> None:
    for name, value in counters.items():
        if name == "cpu_us":
            _tell(families, VCPU_SECONDS, labels, value)
        elif name.startswith("exits_"):
            _tell(families, VCPU_EXITS, {**labels, "kind": name.removeprefix("exits_")}, value)
        elif name.startswith("unclaimed_"):
            space = name.removeprefix("unclaimed_")
            _tell(families, VCPU_UNCLAIMED, {**labels, "space": space}, value)


def _tell_device(families: Families, labels: dict[str, str], counters: Mapping[str, int]) -> None:
    for name, value in counters.items():
        queue = _QUEUE_COUNTER.fullmatch(name)
        if queue is None:
            if name in DEVICE:
                _tell(families, DEVICE[name], labels, value)
        elif queue[2] in QUEUE:
            _tell(families, QUEUE[queue[2]], {**labels, "queue": queue[1]}, value)


def _tell(families: Families, told: Told, labels: Mapping[str, str], value: float) -> None:
    add = families.gauge if told.gauge else families.counter
    add(told.metric, told.description, labels, value * told.scale)
