# SPDX-License-Identifier: Apache-2.0
"""The monitoring's document and dashboard say what the server tells."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.metrics_reference import DOCUMENT, updated
from tests.support.metrics import DASHBOARD, NAME, SUFFIXES, described, expressions

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_table_of_metrics_is_what_the_server_tells() -> None:
    document = DOCUMENT.read_text()
    assert document == updated(document), "run python -m scripts.metrics_reference"


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    asked = set(NAME.findall(expression))
    assert asked
    assert asked <= described()


def test_the_document_names_only_what_there_is() -> None:
    prose = DOCUMENT.read_text().partition("| metric |")[0]
    known = {name.removesuffix(suffix) for name in described() for suffix in ("", *SUFFIXES)}
    named = {name for name in NAME.findall(prose) if not name.endswith("_")}
    assert len(named) > 10
    assert named <= known


def test_every_family_is_on_the_dashboard_or_can_be_found_in_the_table() -> None:
    """What the first look at a host needs is on the dashboard."""
    shown = " ".join(expressions())
    for needed in (
        *("velum_worker_up", "velum_vm_state", "velum_vcpu_exits_total"),
        *("velum_vcpu_cpu_seconds_total", "velum_vm_memory_resident_bytes", "velum_worker_jobs"),
        *("velum_api_requests_total", "velum_api_call_seconds", "velum_worker_operation_seconds"),
    ):
        assert needed in shown, needed


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return not (
        one["x"] + one["w"] <= other["x"]
        or other["x"] + other["w"] <= one["x"]
        or one["y"] + one["h"] <= other["y"]
        or other["y"] + other["h"] <= one["y"]
    )


def test_the_dashboard_is_laid_out_as_grafana_wants_it() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for at, place in enumerate(places):
        assert not any(overlap(place, other) for other in places[at + 1 :])
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(each == {"type": "prometheus", "uid": "${datasource}"} for each in sources)
