# SPDX-License-Identifier: Apache-2.0
"""VMs made, booted, paused, killed and deleted at random, for as long as one likes.

Plain processes here, or units of systemd where the package is installed: on this machine, or in
the testbed. Fails at the first answer of the API that is wrong, and at the end if anything was
left behind: descriptors, threads, memory, files or control groups.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.integration.soak.host import Host, ProcessHost
from tests.integration.soak.model import VmModel
from tests.integration.soak.run import Outcome, soak
from tests.integration.soak.units import UnitHost
from tests.integration.soak.vms import Vms
from tests.run import build_guests, execute_on_systemd, package
from tests.testbed.jobs import PROJECT

_TESTBED_REST = 3600.0
"""Seconds for all but the soak itself, on a processor that is emulated."""
_CONFIGURED = 4
"""One VM of so many is booted by its worker itself."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--vms", type=int, default=20)
    parser.add_argument("--actors", type=int, default=4, help="that do something at a time (4)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--output", type=Path, default=PROJECT / "build/soak.json")
    parser.add_argument(
        "--place",
        choices=("processes", "units", "testbed"),
        default="processes",
        help="units: of systemd, on this machine; testbed: the same there (default: %(default)s)",
    )
    return parser.parse_args()


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _models(count: int) -> list[VmModel]:
    return [VmModel(f"soak-{number:02}", number % _CONFIGURED == 0) for number in range(count)]


@contextlib.contextmanager
def _host(place: str, models: Sequence[VmModel]) -> Iterator[Host]:
    names = [model.name for model in models]
    configured = [model.name for model in models if model.configured]
    if place == "units":
        with UnitHost(names, configured) as units:
            yield units
    else:
        with (
            tempfile.TemporaryDirectory(prefix="velum-soak-") as folder,
            ProcessHost(Path(folder), names, configured) as processes,
        ):
            yield processes


def _run(options: argparse.Namespace) -> Outcome:
    models = _models(options.vms)
    _tell(f"{options.vms} VMs, {options.minutes:g} minutes, --seed {options.seed}")
    with _host(options.place, models) as host:
        return soak(
            host,
            Vms(host, models),
            options.minutes * 60,
            actors=options.actors,
            seed=options.seed,
            tell=_tell,
        )


def _run_in_testbed(options: argparse.Namespace) -> int:
    """Do the same where the package is installed on a clean Debian."""
    built = package()
    if built is None:
        return 1
    build_guests()
    command = [sys.executable, "-u", "-m", "tests.integration.soak", "--place", "units"]
    for name in ("minutes", "vms", "actors", "seed", "output"):
        command += [f"--{name}", str(getattr(options, name))]
    limit = options.minutes * 60 + _TESTBED_REST
    status, _ = execute_on_systemd(command, {"VELUM_PACKAGE": str(built)}, limit)
    return status


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    if options.place == "testbed":
        return _run_in_testbed(options)
    outcome = _run(options)
    _tell(f"before: {outcome.before}")
    _tell(f"after:  {outcome.after}")
    _tell(f"{sum(outcome.done.values())} requests and kills: {outcome.done}")
    for leak in outcome.leaks:
        _tell(f"LEAK: {leak}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(outcome.as_json, indent=2) + "\n")
    return 1 if outcome.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
