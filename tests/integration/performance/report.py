# SPDX-License-Identifier: Apache-2.0
"""Results as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["render", "write"]

_TIMES = {"ns", "ms", "s"}
_COLUMNS = ("", "median", "min", "max", "runs", "aim", "")
_BESIDE = ("", "velum", "qemu", "ratio", "min", "max", "runs", "", "CPU", "qemu's", "ratio", "")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _row(series: dict[str, Any], *, emulated: bool) -> tuple[str, ...]:
    aim = series["aim"]
    if emulated and series["unit"] in _TIMES:
        aim = None  # an aim in seconds is meant for a real processor
    verdict = "" if aim is None else ("met" if series["median"] <= aim else "MISSED")
    return (
        f"{series['name']} [{series['unit']}]",
        *(_number(series[key]) for key in ("median", "min", "max")),
        str(len(series["runs"])),
        _number(aim),
        verdict,
    )


def _compared(series: dict[str, Any]) -> tuple[str, ...]:
    keys = ("velum", "qemu", "ratio", "ratio_min", "ratio_max")
    costs = ("velum_cost", "qemu_cost", "cost_ratio")
    return (
        f"{series['name']} [{series['unit']}]",
        *(_number(series[key]) for key in keys),
        str(len(series["velum_runs"])),
        "met" if series["ratio"] >= series["aim"] else "MISSED",
        *(_number(series[key]) for key in costs),
        series["cost_unit"],
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Line up the columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return lines


def render(report: dict[str, Any]) -> str:
    """Return the tables of one environment's results."""
    place = report["environment"]
    emulated = place["emulated"]
    note = "; emulated: compare only within this table" if emulated else ""
    cpu = f"{place['cpu']}, {place['cpus']} CPUs, Linux {place['kernel']}"
    lines = [f"{cpu}, KVM: {place['kvm']} ({place['virtualization']}){note}"]
    if report["results"]:
        results = [_row(series, emulated=emulated) for series in report["results"]]
        lines += _table([_COLUMNS, *results])
    if report["beside_qemu"]:
        lines += ["", "Devices beside QEMU's; a ratio above 1 is in Velum's favour"]
        lines += _table([_BESIDE, *map(_compared, report["beside_qemu"])])
    return "\n".join(lines)


def write(path: Path, reports: list[dict[str, Any]]) -> None:
    """Write the results of every environment to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(reports, indent=2) + "\n")
