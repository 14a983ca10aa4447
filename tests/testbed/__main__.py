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
from tests.testbed.image import image
from tests.testbed.machine import DEFAULT_MEMORY, Job, run
from tests.testbed.session import MachineDiedError, TimeLimitError
from tests.testbed.shares import Share

TIME_LIMIT_EXCEEDED = 124
MACHINE_FAILED = 125
PROJECT = Path(__file__).parents[2]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build the image, unless it is in the cache")
    verbs.add_parser("path", help="print where the cache is")
    verbs.add_parser("clean", help="remove the cache")
    verb = verbs.add_parser("run", help="run a command")
    verb.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    verb.add_argument("--share", action="append", default=[], type=Path, help="a folder, read-only")
    verb.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS")
    verb.add_argument("--memory", type=int, default=DEFAULT_MEMORY, metavar="MIB")
    verb.add_argument("--console", type=Path, help="keep the machine's kernel log in this file")
    verb.add_argument("--retries", type=int, default=0, help="if the machine itself fails")
    verb.add_argument("command", nargs="+", help="after --")
    return parser.parse_args()


def run_command(options: argparse.Namespace) -> int:
    """Run the command, again when the machine failed and may be tried again."""
    environment = dict(pair.split("=", 1) for pair in options.env)
    environment.setdefault("VELUM_CACHE", str(cache.root()))
    cache.root().mkdir(parents=True, exist_ok=True)
    read_only = [cache.root(), *(path.absolute() for path in options.share)]
    job = Job(
        command=options.command,
        directory=Path.cwd(),
        shares=[Share(PROJECT, writable=True), *(Share(path, writable=False) for path in read_only)],
        environment=environment,
        time_limit=options.time_limit,
        memory=options.memory,
        console=options.console,
    )
    for attempt in range(options.retries + 1):
        try:
            return run(job)
        except TimeLimitError as ex:
            print(f"testbed: {ex}", file=sys.stderr)
            return TIME_LIMIT_EXCEEDED
        except MachineDiedError as ex:
            print(f"testbed: the machine failed: {ex}", file=sys.stderr)
            if attempt < options.retries:
                print(f"testbed: retry {attempt + 1}", file=sys.stderr, flush=True)
    return MACHINE_FAILED


def main() -> int:
    """Do what the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = arguments()
    if options.verb == "run":
        return run_command(options)
    if options.verb == "clean":
        cache.clean()
    elif options.verb == "build":
        image()
    if options.verb != "clean":
        print(cache.root())
    return 0


if __name__ == "__main__":
    sys.exit(main())
