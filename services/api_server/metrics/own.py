# SPDX-License-Identifier: Apache-2.0
"""What this server counts of its own work."""

from __future__ import annotations

import functools
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

        # To find a series by its labels takes longer than to count in it.
        self._answers = functools.cache(
            lambda method, route, status: self._requests.labels(method, route, str(status))
        )
        self._durations = functools.cache(self._request_seconds.labels)
        self._calls = functools.cache(self._call_seconds.labels)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; ``route`` and ``method`` are known ones, or ``OTHER``."""
        self._answers(method, route, status).inc()
        self._durations(route).observe(seconds)

    def note_refusal(self, status: int) -> None:
        """Count what did not get as far as the application, hence no method and no time."""
        self._answers(OTHER, OTHER, status).inc()

    def note_call(self, operation: Operation, seconds: float, error: ErrorCode | None) -> None:
        """Count a call of a worker, whatever came of it."""
        self._calls(operation).observe(seconds)
        if error is not None:
            self._call_errors.labels(operation, error).inc()

    def watch_connections(self, **states: Callable[[], int]) -> None:
        """Take the number of connections in each state from these from now on."""
        for state, count in states.items():
            self._connections.labels(state).set_function(count)
