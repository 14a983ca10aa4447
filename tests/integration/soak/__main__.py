# SPDX-License-Identifier: Apache-2.0
"""VMs made, booted, paused, killed and deleted at random, for as long as one likes.

Fails at the first answer of the API that is wrong, and at the end if anything was left behind:
descriptors, threads, memory, files or control groups.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.soak.host import ProcessHost
from tests.integration.soak.model import VmModel
from tests.integration.soak.run import soak
from tests.integration.soak.vms import Vms

_CONFIGURED = 4
"""One VM of so many is booted by its worker itself."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--vms", type=int, default=20)
    parser.add_argument("--actors", type=int, default=4, help="that do something at a time (4)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--output", type=Path, help="for the result, as JSON")
    return parser.parse_args()


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    names = [f"soak-{number:02}" for number in range(options.vms)]
    models = [VmModel(name, configured=False) for n, name in enumerate(names)]
    configured = [model.name for model in models if model.configured]
    _tell(f"{options.vms} VMs, {options.minutes:g} minutes, --seed {options.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="velum-soak-") as folder,
        ProcessHost(Path(folder), names, configured) as host,
    ):
        vms = Vms(host, models)
        seconds = options.minutes * 60
        outcome = soak(host, vms, seconds, actors=options.actors, seed=options.seed, tell=_tell)
    _tell(f"before: {outcome.before}")
    _tell(f"after:  {outcome.after}")
    _tell(f"{sum(outcome.done.values())} requests and kills: {outcome.done}")
    for leak in outcome.leaks:
        _tell(f"LEAK: {leak}")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(outcome.as_json, indent=2) + "\n")
    return 1 if outcome.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
