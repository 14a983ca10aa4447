# SPDX-License-Identifier: Apache-2.0
"""Series of measurements of Velum and of QEMU, taken in turn."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

__all__ = ["AIM", "Comparisons", "Figures"]

AIM = 1.0
"""Of the median ratio, which is above 1 where Velum is the better one."""
_LESS_IS_BETTER = frozenset({"ms", "s"})


class Figures(NamedTuple):
    """What one run of one VMM came to."""

    value: float
    cost: float
    """CPU time for each GiB or each operation."""


class _Series(NamedTuple):
    unit: str
    cost_unit: str
    velum: list[Figures]
    qemu: list[Figures]


class Comparisons:
    """Named series of both, in the order in which they were begun."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def add(self, name: str, unit: str, cost_unit: str, velum: Figures, qemu: Figures) -> None:
        """Note a run of each, the second right after the first."""
        series = self._series.setdefault(name, _Series(unit, cost_unit, [], []))
        series.velum.append(velum)
        series.qemu.append(qemu)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the medians, those of the ratios of each pair of runs, and the runs."""
        return [{"name": name, **_summary(series)} for name, series in self._series.items()]


def _ratio(velum: float, qemu: float, *, less_is_better: bool) -> float:
    if less_is_better:
        velum, qemu = qemu, velum
    return velum / qemu if qemu else float("nan")


def _summary(series: _Series) -> dict[str, Any]:
    pairs = list(zip(series.velum, series.qemu, strict=True))
    less = series.unit in _LESS_IS_BETTER
    ratios = [_ratio(velum.value, qemu.value, less_is_better=less) for velum, qemu in pairs]
    costs = [_ratio(velum.cost, qemu.cost, less_is_better=True) for velum, qemu in pairs]
    return {
        "unit": series.unit,
        "velum": statistics.median(figures.value for figures in series.velum),
        "qemu": statistics.median(figures.value for figures in series.qemu),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "aim": AIM,
        "cost_unit": series.cost_unit,
        "velum_cost": statistics.median(figures.cost for figures in series.velum),
        "qemu_cost": statistics.median(figures.cost for figures in series.qemu),
        "cost_ratio": statistics.median(costs),
        "velum_runs": [figures._asdict() for figures in series.velum],
        "qemu_runs": [figures._asdict() for figures in series.qemu],
    }
