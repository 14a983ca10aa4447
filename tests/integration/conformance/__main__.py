# SPDX-License-Identifier: Apache-2.0
"""Asks a server for as long as it takes to make a number of requests, with a seed a round."""

from __future__ import annotations

import argparse
import itertools
import sys

from tests.integration.conformance.fuzzing import Phases, fuzzing


def main() -> int:
    """Run rounds until there were enough requests, or one of them found something."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.conformance", description=__doc__
    )
    parser.add_argument("--requests", type=int, default=20_000, help="at least (%(default)s)")
    parser.add_argument("--round", type=int, default=300, help="seconds of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (%(default)s)")
    options = parser.parse_args()
    with fuzzing() as server:
        for seed, phases in zip(
            itertools.count(options.seed), itertools.cycle(Phases), strict=False
        ):
            result = server.run(phases, seconds=options.round, seed=seed)
            statuses = server.statuses()
            print(f"{phases.name}, seed {seed}: {statuses.total()} requests so far", flush=True)
            if result.returncode or server.faults():
                print(result.stdout, *server.faults(), sep="\n")
                return 1
            if statuses.total() >= options.requests:
                break
    print(", ".join(f"{count} times {status}" for status, count in sorted(statuses.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
