# SPDX-License-Identifier: Apache-2.0
"""The way into ``velum-vmm``, and ``python -m vmm_worker``: as quick as it can be."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> int:
    """Import the worker, run it and return its exit status.

    What an import makes stays: the collector would look through it some fifty times
    meanwhile, and again with each full collection of the worker's life.
    """
    gc.disable()
    from vmm_worker.main import main as run  # noqa: PLC0415 - this is what takes the time

    gc.freeze()
    gc.enable()
    return run()


if __name__ == "__main__":
    sys.exit(main())
