# SPDX-License-Identifier: Apache-2.0
"""Panels of a Grafana dashboard as a picture: where Grafana would put them, with its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LinearLocator, MaxNLocator

from scripts.dashboard_prometheus import Series

__all__ = ["Drawn", "draw"]

_COLUMNS: Final = 24
_CELL: Final = 0.66, 0.34
"""Inches of one cell of the grid: width and height."""
_BACK, _PANEL, _TEXT, _LINES = "#111217", "#181b1f", "#ccccdc", "#2c2f36"
_COLOURS: Final = (
    *("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffb357"),
    *("#96d98d", "#ff7383", "#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8"),
)
_SUFFIXES: Final = {"bytes": "B", "Bps": "B/s", "reqps": " req/s", "iops": " io/s", "ops": " /s"}
_BINARY: Final = {"bytes"}
_ALIGNED: Final = 1024


class Drawn(NamedTuple):
    """A panel, and what its queries came to."""

    panel: dict[str, Any]
    lines: Mapping[str, Series]
    """By what its legend says."""


def _number(value: float, unit: str) -> str:
    """Write a value as Grafana does for its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for scale, suffix in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= scale or scale < 1e-5:  # noqa: PLR2004
                return f"{value / scale:.3g} {suffix}" if value else "0 s"
    step = _ALIGNED if unit in _BINARY else 1000
    scaled, prefixes = value, ["", "k", "M", "G", "T"]
    while abs(scaled) >= step and prefixes[1:]:
        scaled /= step
        prefixes.pop(0)
    prefix = prefixes[0] + ("i" if unit in _BINARY and prefixes[0] else "")
    return f"{scaled:.3g} {prefix}{_SUFFIXES.get(unit, '')}".strip()


def _unit(drawn: Drawn) -> str:
    unit: str = drawn.panel["fieldConfig"]["defaults"]["unit"]
    return unit


def _graph(axes: Axes, drawn: Drawn) -> None:
    unit = _unit(drawn)
    defaults = drawn.panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    below: dict[float, float] = {}
    for colour, (name, series) in zip(_COLOURS * 2, sorted(drawn.lines.items()), strict=False):
        moments = [datetime.fromtimestamp(at, UTC) for at, _ in series.points]
        floor = [below.get(at, 0.0) if stacked else 0.0 for at, _ in series.points]
        top = [low + value for low, (_, value) in zip(floor, series.points, strict=True)]
        axes.plot(moments, top, color=colour, linewidth=1.1, label=name)
        axes.fill_between(moments, floor, top, color=colour, alpha=0.22 if stacked else 0.07)  # type: ignore[arg-type]
        below |= dict(zip((at for at, _ in series.points), top, strict=True))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, unit)))
    axes.xaxis.set_major_locator(LinearLocator(5))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.grid(color=_LINES, linewidth=0.6)
    axes.tick_params(colors=_TEXT, labelsize=6.5, length=0)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.1),
        ncols=3 if len(drawn.lines) > 4 else 2,  # noqa: PLR2004
        fontsize=6,
        labelcolor=_TEXT,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
        labelspacing=0.25,
    )


def _stat(axes: Axes, drawn: Drawn) -> None:
    (series,) = drawn.lines.values()
    value = series.points[-1][1]
    steps = drawn.panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    colour = {"green": _COLOURS[0], "red": _COLOURS[4]}[reached[-1]["color"]]
    moments = [datetime.fromtimestamp(at, UTC) for at, _ in series.points]
    values = [value for _, value in series.points]
    axes.fill_between(moments, values, color=colour, alpha=0.25)  # type: ignore[arg-type]
    axes.plot(moments, values, color=colour, linewidth=1)
    axes.set_ylim(0, max(*values, 1e-9) * 3)
    axes.set_axis_off()
    axes.text(
        *(0.5, 0.62, _number(value, _unit(drawn))),
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=17,
        color=colour,
        weight="bold",
    )


def draw(panels: Sequence[Drawn], title: str, output: Path) -> None:
    """Draw them into a PNG file."""
    rows = max(each.panel["gridPos"]["y"] + each.panel["gridPos"]["h"] for each in panels)
    wide, high = _COLUMNS * _CELL[0], (rows + 2) * _CELL[1]
    figure = Figure(figsize=(wide, high), dpi=110, facecolor=_BACK)
    figure.text(0.008, 1 - 0.22 / high, title, color=_TEXT, fontsize=13, weight="bold", va="top")
    for drawn in panels:
        place = drawn.panel["gridPos"]
        left, top = place["x"] / _COLUMNS, 1 - (place["y"] + 1.6) * _CELL[1] / high
        width, height = place["w"] / _COLUMNS, place["h"] * _CELL[1] / high
        if drawn.panel["type"] == "row":
            figure.text(left + 0.008, top - height / 2, drawn.panel["title"], color=_TEXT)
            continue
        frame = figure.add_axes((left + 0.002, top - height, width - 0.004, height * 0.97))
        frame.set_facecolor(_PANEL)
        frame.set_xticks([])
        frame.set_yticks([])
        for spine in frame.spines.values():
            spine.set_color(_LINES)
        inches = place["h"] * _CELL[1]
        figure.text(
            left + 0.007, top - 0.1 / high, drawn.panel["title"], color=_TEXT, fontsize=8, va="top"
        )
        graph = drawn.panel["type"] == "timeseries"
        bottom, above = (0.95 / inches, 0.3 / inches) if graph else (0.0, 0.1)
        axes = figure.add_axes(
            (
                left + (0.045 if graph else 0.003),
                top - height * (1 - bottom),
                width - (0.055 if graph else 0.006),
                height * (1 - bottom - above),
            )
        )
        axes.set_facecolor(_PANEL)
        for spine in axes.spines.values():
            spine.set_visible(False)
        (_graph if graph else _stat)(axes, drawn)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, facecolor=_BACK)
