# SPDX-License-Identifier: Apache-2.0
"""What this server counts of its own work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import Operation
from ipc_protocol.metrics import LATENCY_BOUNDS

__all__ = ["OTHER", "ApiMetrics"]

OTHER: Final = "other"
"""The label of what clients make up: each value of a label is kept for good."""

# A restart is seen by the start time of the process, not by one of each series.
disable_created_metrics()  # type: ignore[no-untyped-call]


class ApiMetrics:
    """Made before the fork; from any thread of the process that serves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        """All of them, and what the kernel says of the process."""
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "velum_api_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "velum_api_request_seconds",
            "From a request's arrival at the application to its answer.",
            ("route",),
            buckets=LATENCY_BOUNDS,
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "velum_api_call_seconds",
            "From a message to a worker to its reply.",
            ("operation",),
            buckets=LATENCY_BOUNDS,
            registry=self.registry,
        )
        self._call_errors = Counter(
            "velum_api_call_errors",
            "Calls of workers that failed, by reason.",
            ("operation", "code"),
            registry=self.registry,
        )
        self._connections = Gauge(
            "velum_api_connections",
            "Connections of clients that a thread is with, that wait, or that read events.",
            ("state",),
            registry=self.registry,
        )

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; ``route`` and ``method`` are known ones, or ``OTHER``."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def note_refusal(self, status: int) -> None:
        """Count what did not get as far as the application, hence no method and no time."""
        self._requests.labels(OTHER, OTHER, str(status)).inc()

    def note_call(self, operation: Operation, seconds: float, error: ErrorCode | None) -> None:
        """Count a call of a worker, whatever came of it."""
        self._call_seconds.labels(operation).observe(seconds)
        if error is not None:
            self._call_errors.labels(operation, error).inc()

    def watch_connections(self, **states: Callable[[], int]) -> None:
        """Take the number of connections in each state from these from now on."""
        for state, count in states.items():
            self._connections.labels(state).set_function(count)
