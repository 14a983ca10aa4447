# SPDX-License-Identifier: Apache-2.0
"""Writes the table of all metrics into docs/monitoring.md, from what the server tells.

Run it when a metric is added or described anew; a test finds a table that is behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric

from api_server.metrics.counters import DEVICE, QUEUE
from api_server.metrics.own import ApiMetrics
from api_server.metrics.workers import tell_workers
from ipc_protocol.connections import Ended
from ipc_protocol.errors import ErrorCode
from ipc_protocol.jobs import JobState
from ipc_protocol.messages import Operation, WorkerMetrics
from ipc_protocol.metrics import (
    LATENCY_BOUNDS,
    IpcMetrics,
    Latency,
    OperationMetrics,
    ProcessMetrics,
)

__all__ = ["DOCUMENT", "table", "updated"]

DOCUMENT: Final = Path(__file__).parents[1] / "docs/monitoring.md"
_BEGIN: Final = "| metric | type | labels | what it is |\n|---|---|---|---|\n"


def _own() -> ApiMetrics:
    """Return what this server tells of itself, each label with some value."""
    metrics = ApiMetrics()
    metrics.note_request("GET", "/metrics", 200, 0.0)
    metrics.note_call(Operation.VMM_PING, 0.0, ErrorCode.VMM_TIMEOUT)
    metrics.watch_connections(served=int, waiting=int, streaming=int)
    return metrics


def _worker() -> WorkerMetrics:
    """Return what a worker says that has every counter there is."""
    latency = Latency(counts=(0,) * (len(LATENCY_BOUNDS) + 1), sum=0.0)
    return WorkerMetrics(
        process=ProcessMetrics(
            start_time=0.0, cpu_seconds=0.0, resident_bytes=0, open_descriptors=0, threads=0
        ),
        ipc=IpcMetrics(refused=0, dropped=0, undelivered=0, ended=asdict(Ended())),
        operations={
            Operation.VM_BOOT: OperationMetrics(latency=latency, errors={ErrorCode.INTERNAL: 0})
        },
        jobs=dict.fromkeys(JobState, 0),
        counters={
            "__vcpu0": {"exits_io": 0, "unclaimed_io": 0, "cpu_us": 0},
            "__boot": {"first_instruction_us": 0},
            "_device": dict.fromkeys((*DEVICE, *(f"queue0_{name}" for name in QUEUE)), 0),
        },
    )


def _row(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
    shown = ", ".join(sorted(labels, key=lambda label: (label != "vm", label)))
    return f"| `{name}` | {metric.type} | {shown} | {metric.documentation} |\n"


def _families() -> Iterator[Metric]:
    yield from _own().registry.collect()
    yield from tell_workers({"vm": _worker()}).collect()


def table() -> str:
    """Return the table."""
    return _BEGIN + "".join(sorted(map(_row, _families())))


def updated(document: str) -> str:
    """Return the document with the table as it should be."""
    before, begin, after = document.partition(_BEGIN)
    if not begin:
        raise ValueError("the document has no table of metrics")
    rows = after.splitlines(keepends=True)
    rest = next((at for at, row in enumerate(rows) if not row.startswith("|")), len(rows))
    return before + table() + "".join(rows[rest:])


def main() -> int:
    """Write the document."""
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
