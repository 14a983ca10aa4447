# SPDX-License-Identifier: Apache-2.0
"""The names of metrics: those that are described, and those that the dashboard asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from scripts.metrics_reference import table

__all__ = ["DASHBOARD", "NAME", "SUFFIXES", "described", "expressions"]

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs/monitoring/dashboard.json").read_text())
NAME = re.compile(r"\b(?:velum|process)_[a-z_]+")
SUFFIXES = ("_bucket", "_sum", "_count")


def described() -> set[str]:
    """Every series that there is, by the table of the document."""
    names = set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", table(), re.MULTILINE):
        names |= {name + suffix for suffix in SUFFIXES} if kind == "histogram" else {name}
    return names


def expressions() -> list[str]:
    """Every query of the dashboard."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [target["expr"] for panel in panels for target in panel["targets"]]
