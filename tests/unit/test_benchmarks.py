# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks make of their figures; the figures themselves are `make bench`'s."""

from __future__ import annotations

import pytest

from tests.integration.performance.beside import Comparisons, Figures
from tests.integration.performance.report import render

PLACE = {
    "cpu": "a CPU",
    "cpus": 2,
    "kernel": "6.1",
    "kvm": "kvm_amd",
    "virtualization": "hardware",
    "emulated": True,
}


@pytest.mark.parametrize(("unit", "ratio"), [("MiB/s", 0.5), ("1/s", 0.5), ("s", 2.0)])
def test_above_1_is_in_velums_favour(unit: str, ratio: float) -> None:
    comparisons = Comparisons()
    for factor in (1, 3, 2):  # the machine's mood is the same for both of a pair
        velum, qemu = Figures(10.0 * factor, 4.0), Figures(20.0 * factor, 8.0)
        comparisons.add("row", unit, "us", velum, qemu)
    (row,) = comparisons.as_json()
    assert row["ratio"] == row["ratio_min"] == row["ratio_max"] == ratio
    assert (row["velum"], row["qemu"]) == (20.0, 40.0)
    assert row["cost_ratio"] == 2.0
    assert len(row["velum_runs"]) == 3


def test_the_table_says_where_the_aim_is_missed() -> None:
    comparisons = Comparisons()
    comparisons.add("slow", "1/s", "us", Figures(90.0, 1.0), Figures(100.0, 1.0))
    comparisons.add("fast", "1/s", "us", Figures(100.0, 1.0), Figures(90.0, 0.0))
    report = {"environment": PLACE, "results": [], "beside_qemu": comparisons.as_json()}
    lines = render(report).splitlines()
    assert "compare only within this table" in lines[0]
    (slow,) = (line for line in lines if line.startswith("slow [1/s]"))
    (fast,) = (line for line in lines if line.startswith("fast [1/s]"))
    assert "MISSED" in slow
    assert "met" in fast
