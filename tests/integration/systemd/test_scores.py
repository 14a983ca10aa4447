# SPDX-License-Identifier: Apache-2.0
"""How exposed systemd finds the installed units, and that the document says why."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.systemd

DOCUMENT: Final = Path(__file__).parents[3] / "docs/security.md"
LIMITS: Final = {"velum-api": 1.5, "velum-vmm@": 2.5}
UNITS: Final = {
    "velum-api.service": "velum-api",
    "velum-api@web-1.service": "velum-api",
    "velum-vmm@web-1.service": "velum-vmm@",
}
"""Which of the two kinds a unit is of."""
ROW: Final = re.compile(
    r"^\| `(?P<name>[^`]+)` \| (?P<api>[\d.]*) ?\| (?P<worker>[\d.]*) ?\| (?P<why>.+) \|$",
    re.MULTILINE,
)


def analyze(unit: str, *options: str) -> str:
    """Return what systemd has to say against a unit."""
    command = ["systemd-analyze", "security", "--no-pager", *options, unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def explained(kind: str) -> dict[str, str]:
    """Return the points that the document explains for a kind of unit, by setting."""
    column = {"velum-api": "api", "velum-vmm@": "worker"}[kind]
    rows = ROW.finditer(DOCUMENT.read_text())
    return {row["name"]: row[column] for row in rows if row[column]}


@pytest.mark.parametrize("unit", UNITS)
def test_a_score_is_low_enough(unit: str) -> None:
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", analyze(unit))
    assert found
    assert float(found[1]) <= LIMITS[UNITS[unit]]


@pytest.mark.parametrize("unit", UNITS)
def test_each_remaining_point_is_explained(unit: str) -> None:
    points = json.loads(analyze(unit, "--json=short"))
    remaining = {point["name"]: point["exposure"] for point in points if point["set"] is False}
    assert remaining == explained(UNITS[unit])
