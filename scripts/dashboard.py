# SPDX-License-Identifier: Apache-2.0
"""Draws the dashboard of docs/monitoring with what a Prometheus has of a host at work.

It needs Debian's package prometheus, the right to make a network namespace, and matplotlib:
``pip install -e '.[docs]'``. Every query of every panel is put; one without an answer is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from scripts.dashboard_picture import Drawn, draw
from scripts.dashboard_prometheus import Prometheus, Series, prometheus
from scripts.dashboard_scene import scene

_DOCS: Final = Path(__file__).parents[1] / "docs/monitoring"
_OPTIONAL: Final = re.compile(r"> 0$")
"""Such a query has an answer only where there is something wrong, or something at all."""


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), form)


def _query(panel: dict[str, Any], source: Prometheus, start: float, end: float) -> Drawn:
    lines: dict[str, Series] = {}
    for target in panel.get("targets", ()):
        found = source.series(target["expr"], start, end)
        if not found and not _OPTIONAL.search(target["expr"]):
            raise LookupError(f"{panel['title']}: no answer to {target['expr']}")
        lines |= {_legend(target["legendFormat"], each.labels): each for each in found}
    return Drawn(panel, lines)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboard", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="to be drawn (180)")
    parser.add_argument("--output", type=Path, default=_DOCS / "dashboard.png")
    options = parser.parse_args()
    dashboard = json.loads((_DOCS / "dashboard.json").read_text())
    with (
        tempfile.TemporaryDirectory(prefix="velum-dashboard-") as place,
        scene(Path(place)) as metrics,
        prometheus(Path(place), metrics) as source,
    ):
        time.sleep(options.seconds)
        end = time.time()
        drawn = [_query(panel, source, end - options.seconds, end) for panel in dashboard["panels"]]
    draw(drawn, dashboard["title"], options.output)
    queries = sum(len(each.panel.get("targets", ())) for each in drawn)
    print(f"{queries} queries of {len(drawn)} panels and rows answered; written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
