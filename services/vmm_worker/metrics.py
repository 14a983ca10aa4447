# SPDX-License-Identifier: Apache-2.0
"""What ``vmm.metrics`` answers: what this worker and its VM did and use."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict

from ipc_protocol.connections import Connections
from ipc_protocol.errors import ErrorCode
from ipc_protocol.jobs import JobState
from ipc_protocol.messages import Operation, WorkerMetrics
from ipc_protocol.metrics import LATENCY_BOUNDS, IpcMetrics, Latency, OperationMetrics
from ipc_protocol.server import Counters
from vmm_worker.process import process_metrics
from vmm_worker.vmm import Standing

__all__ = ["OperationTimes", "worker_metrics"]


class _Times:
    """Of one operation."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.sum = 0.0
        self.errors: dict[ErrorCode, int] = {}


class OperationTimes:
    """Counts answers by the time from the request's arrival; for one thread."""

    def __init__(self) -> None:
        self._times: dict[Operation, _Times] = {}

    def note(self, operation: Operation, seconds: float, error: ErrorCode | None) -> None:
        """Count one answer.

        Args:
            operation: What was asked for.
            seconds: How long it took.
            error: Why it was not done, if so.
        """
        times = self._times.get(operation)
        if times is None:
            times = self._times[operation] = _Times()
        times.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        times.sum += seconds
        if error is not None:
            times.errors[error] = times.errors.get(error, 0) + 1

    def report(self) -> dict[Operation, OperationMetrics]:
        """Return what was counted so far."""
        return {
            operation: OperationMetrics(
                latency=Latency(counts=tuple(times.counts), sum=times.sum),
                errors=dict(times.errors),
            )
            for operation, times in self._times.items()
        }


def worker_metrics(
    standing: Standing,
    *,
    ipc: Counters,
    connections: Connections,
    times: OperationTimes,
    jobs: dict[JobState, int],
) -> WorkerMetrics:
    """Put together what is measured in several places; it takes no longer than any read."""
    vm = standing.vm
    return WorkerMetrics(
        process=process_metrics(),
        ipc=IpcMetrics(
            refused=ipc.refused,
            dropped=ipc.dropped,
            undelivered=ipc.undelivered,
            connections=len(connections),
            ended=asdict(connections.ended),
        ),
        operations=times.report(),
        jobs=jobs,
        counters={} if vm is None else vm.counters(),
        state=standing.state,
        boots=standing.boots,
        memory_actual_size=standing.memory_actual_size,
        memory_resident=0 if vm is None else vm.resident,
    )
