# SPDX-License-Identifier: Apache-2.0
"""Measures Velum beside its peers, and prints a table and a JSON file.

Where the host's CPU has no VMX or SVM, Linux guests are booted in the testbed, and what
needs no Linux guest is measured on the host as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.guests.linux import linux_guest
from tests.integration.performance import api, boots, exits, report
from tests.integration.performance.measure import Results, environment, has_fast_kvm
from tests.integration.performance.processes import ROOT
from tests.support.guests import build, names

_PARTS = ("exits", "api", "boots")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.performance", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=10, help="of everything (10)")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench.json")
    parser.add_argument("--time-limit", type=float, default=3600.0, help="of the testbed, seconds")
    parser.add_argument("--here", action="store_true", help="never use the testbed")
    return parser.parse_args()


def _measure_here(parts: list[str], runs: int) -> dict[str, Any]:
    fast = has_fast_kvm()
    results = Results()
    if "exits" in parts:
        exits.measure(results, runs)
    if "boots" in parts:
        boots.measure_tiny(results, runs)
        if fast:
            boots.measure(results, linux_guest(), runs)
    if "api" in parts:
        payload = None
        if fast:
            guest = linux_guest()
            payload = {"kernel": str(guest.kernel), "initramfs": str(guest.initramfs)}
        api.measure(results, runs, payload)
    return {"environment": environment(), "results": results.as_json()}


def _measure_in_testbed(options: argparse.Namespace) -> list[dict[str, Any]]:
    # The testbed has neither a network nor a compiler.
    linux_guest()
    exits.bare_program()
    for name in names():
        build(name)
    output = ROOT / "build/bench-testbed.json"
    output.parent.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)
    testbed = [sys.executable, "-m", "tests.testbed", "run", "--retries", "1"]
    command = [sys.executable, "-m", "tests.integration.performance", "--here"]
    command += ["--runs", str(options.runs), "--output", str(output), "--parts", *options.parts]
    limit = ["--time-limit", str(options.time_limit)]
    subprocess.run([*testbed, *limit, "--", *command], check=True, cwd=ROOT)
    reports: list[dict[str, Any]] = json.loads(output.read_text())
    return reports


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    reports = [_measure_here(options.parts, options.runs)]
    print(report.render(reports[0]), flush=True)
    if not options.here and not has_fast_kvm():
        in_testbed = _measure_in_testbed(options)
        reports += in_testbed
    report.write(options.output, reports)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
