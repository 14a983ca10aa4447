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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.guests.debian import debian, debian_files
from tests.guests.linux import linux_guest
from tests.integration.performance import (
    api,
    boots,
    density,
    devices,
    exits,
    logins,
    report,
    units,
)
from tests.integration.performance.beside import Comparisons
from tests.integration.performance.measure import Results, environment, has_fast_kvm
from tests.integration.performance.peers import load_program
from tests.integration.performance.processes import ROOT
from tests.run import execute_on_systemd, package
from tests.support.guests import build, names

_PARTS = ("exits", "api", "boots", "density", "units", "devices", "debian")


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
    if "units" in parts and units.installed():
        units.measure(results, runs)
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
    testbed = [sys.executable, "-m", "tests.testbed", "run", "--retries", "1"]
    limit = ["--time-limit", str(options.time_limit)]
    given = [f"--env={name}={value}" for name, value in debian_files().items()]
    output = _output("testbed")
    command = _command(options, output, options.parts)
    subprocess.run([*testbed, *limit, *given, "--", *command], check=True, cwd=ROOT)
    return _reports(output)


def _measure_on_systemd(options: argparse.Namespace) -> list[dict[str, Any]]:
    built = package()
    if built is None:
        raise RuntimeError("the package does not build")
    output = _output("systemd")
    command = _command(options, output, ["units"])
    environment = {"VELUM_PACKAGE": str(built)}
    status, _ = execute_on_systemd(command, environment, options.time_limit)
    if status:
        raise RuntimeError(f"the units' benchmarks ended with status {status}")
    return _reports(output)


def _output(place: str) -> Path:
    """Return where the benchmarks of another machine leave what they found."""
    output = ROOT / f"build/bench-{place}.json"
    output.parent.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)
    return output


def _command(options: argparse.Namespace, output: Path, parts: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "tests.integration.performance", "--here"]
    command += ["--runs", str(options.runs), "--pairs", str(options.pairs)]
    return [*command, "--output", str(output), "--parts", *parts, "--rows", *options.rows]


def _reports(output: Path) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = json.loads(output.read_text())
    return reports


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    reports = [_measure_here(options)]
    print(report.render(reports[0]), flush=True)
    if not options.here and not has_fast_kvm():
        reports += _measure_in_testbed(options)
    if not options.here and "units" in options.parts:
        reports += _measure_on_systemd(options)
    report.write(options.output, reports)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
