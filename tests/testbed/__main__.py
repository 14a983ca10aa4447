# SPDX-License-Identifier: Apache-2.0
"""Runs a command as root in an emulated machine that has a working /dev/kvm.

Exit status: the command's own; 124 when it exceeded its time limit; 125 when
the machine itself failed, also in every retry.
"""

import argparse
import signal
import sys
from pathlib import Path

from tests.testbed import cache
from tests.testbed.deployment import DEPLOYMENT
from tests.testbed.image import PLAIN, image
from tests.testbed.jobs import run_job
from tests.testbed.machine import DEFAULT_MEMORY

SYSTEMS = {"plain": PLAIN, "systemd": DEPLOYMENT}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build the images, unless they are in the cache")
    verbs.add_parser("path", help="print where the cache is")
    verbs.add_parser("clean", help="remove the cache")
    verb = verbs.add_parser("run", help="run a command")
    verb.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    verb.add_argument("--share", action="append", default=[], type=Path, help="a folder, read-only")
    verb.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS")
    verb.add_argument("--memory", type=int, default=DEFAULT_MEMORY, metavar="MIB")
    verb.add_argument("--console", type=Path, help="keep the machine's kernel log in this file")
    verb.add_argument("--retries", type=int, default=0, help="if the machine itself fails")
    verb.add_argument("--system", choices=SYSTEMS, default="plain", help="systemd: a clean Debian")
    verb.add_argument("command", nargs="+", help="after --")
    return parser.parse_args()


def main() -> int:
    """Do what the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = arguments()
    if options.verb == "run":
        return run_job(
            options.command,
            environment=dict(pair.split("=", 1) for pair in options.env),
            time_limit=options.time_limit,
            shares=[path.absolute() for path in options.share],
            memory=options.memory,
            console=options.console,
            retries=options.retries,
            system=SYSTEMS[options.system],
        ).status
    if options.verb == "clean":
        cache.clean()
        return 0
    if options.verb == "build":
        for system in SYSTEMS.values():
            image(system)
    print(cache.root())
    return 0


if __name__ == "__main__":
    sys.exit(main())
