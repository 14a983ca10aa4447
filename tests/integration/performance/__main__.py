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

from tests.guests.debian import debian, debian_files
from tests.guests.linux import linux_guest
from tests.integration.performance import api, boots, density, devices, exits, logins, report
from tests.integration.performance.beside import Comparisons
from tests.integration.performance.measure import Results, environment, has_fast_kvm
from tests.integration.performance.peers import load_program
from tests.integration.performance.processes import ROOT
from tests.support.guests import build, names

_PARTS = ("exits", "api", "boots", "density", "devices", "debian")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.performance", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=10, help="of everything (10)")
    parser.add_argument(
        "--pairs", type=int, default=5, help="of runs of Velum and QEMU, for each device (5)"
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument(
        "--rows", nargs="+", default=["*"], metavar="PATTERN", help="of the devices, as a shell's"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench.json")
    parser.add_argument("--time-limit", type=float, default=3600.0, help="of the testbed, seconds")
    parser.add_argument("--here", action="store_true", help="never use the testbed")
    return parser.parse_args()


def _measure_here(options: argparse.Namespace) -> dict[str, Any]:
    parts, runs, fast = options.parts, options.runs, has_fast_kvm()
    results, beside_qemu = Results(), Comparisons()
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
    if "density" in parts:
        density.measure(results, runs)
    if "devices" in parts and fast:
        devices.measure(beside_qemu, linux_guest(), options.pairs, options.rows)
    if "debian" in parts and fast:
        logins.measure(beside_qemu, debian(), max(1, options.pairs // 2))
    return {
        "environment": environment(),
        "results": results.as_json(),
        "beside_qemu": beside_qemu.as_json(),
    }


def _measure_in_testbed(options: argparse.Namespace) -> list[dict[str, Any]]:
    # The testbed has neither a network nor a compiler.
    linux_guest()
    exits.bare_program()
    load_program()
    for name in names():
        build(name)
    output = ROOT / "build/bench-testbed.json"
    output.parent.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)
    testbed = [sys.executable, "-m", "tests.testbed", "run", "--retries", "1"]
    command = [sys.executable, "-m", "tests.integration.performance", "--here"]
    command += ["--runs", str(options.runs), "--pairs", str(options.pairs)]
    command += ["--output", str(output), "--parts", *options.parts, "--rows", *options.rows]
    limit = ["--time-limit", str(options.time_limit)]
    given = [f"--env={name}={value}" for name, value in debian_files().items()]
    subprocess.run([*testbed, *limit, *given, "--", *command], check=True, cwd=ROOT)
    reports: list[dict[str, Any]] = json.loads(output.read_text())
    return reports


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    reports = [_measure_here(options)]
    print(report.render(reports[0]), flush=True)
    if not options.here and not has_fast_kvm():
        in_testbed = _measure_in_testbed(options)
        reports += in_testbed
    report.write(options.output, reports)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
