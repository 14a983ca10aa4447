# SPDX-License-Identifier: Apache-2.0
"""Metrics in the making: samples go to the metric of their name, in whatever order they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ipc_protocol.metrics import LATENCY_BOUNDS, Latency

__all__ = ["Families"]

_BOUNDS: Final = (*map(floatToGoString, LATENCY_BOUNDS), "+Inf")


class Families(Collector):
    """All samples of one metric have the same labels, and the same help."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield what was added, a metric at a time."""
        yield from self._metrics.values()

    def counter(self, name: str, description: str, labels: Mapping[str, str], value: float) -> None:
        """Add a sample of a counter; ``_total`` is appended to its name."""
        family = self._metrics.get(name)
        if not isinstance(family, CounterMetricFamily):
            family = self._metrics[name] = CounterMetricFamily(name, description, labels=[*labels])
        family.add_metric([*labels.values()], value)

    def gauge(self, name: str, description: str, labels: Mapping[str, str], value: float) -> None:
        """Add a sample of a gauge."""
        family = self._metrics.get(name)
        if not isinstance(family, GaugeMetricFamily):
            family = self._metrics[name] = GaugeMetricFamily(name, description, labels=[*labels])
        family.add_metric([*labels.values()], value)

    def histogram(
        self, name: str, description: str, labels: Mapping[str, str], latency: Latency
    ) -> None:
        """Add a latency."""
        family = self._metrics.get(name)
        if not isinstance(family, HistogramMetricFamily):
            family = self._metrics[name] = HistogramMetricFamily(
                name, description, labels=[*labels]
            )
        buckets = list(zip(_BOUNDS, accumulate(latency.counts), strict=True))
        family.add_metric([*labels.values()], buckets, latency.sum)
