# SPDX-License-Identifier: Apache-2.0
"""Runs the project's commands in the testbed, again when the machine itself failed."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.guests.linux import linux_guest
from tests.testbed import cache
from tests.testbed.image import PLAIN
from tests.testbed.machine import DEFAULT_MEMORY, Job, run
from tests.testbed.session import MachineDiedError, TimeLimitError
from tests.testbed.shares import Share
from tests.testbed.system import System

__all__ = ["MACHINE_FAILED", "PROJECT", "TIME_LIMIT_EXCEEDED", "Result", "guest_files", "run_job"]

PROJECT = Path(__file__).parents[2]
TIME_LIMIT_EXCEEDED = 124
MACHINE_FAILED = 125


class Result(NamedTuple):
    """How a job ended."""

    status: int
    """The command's own, or one of the two above."""
    retries: int


def run_job(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    time_limit: float,
    shares: Sequence[Path] = (),
    memory: int = DEFAULT_MEMORY,
    console: Path | None = None,
    retries: int = 2,
    system: System = PLAIN,
) -> Result:
    """Run a command in the testbed, with the project and the cache at their paths.

    A command that fails or exceeds its time is not tried again: only a machine
    that died under it is, and that is printed.
    """
    cache.root().mkdir(parents=True, exist_ok=True)
    common = {"VELUM_CACHE": str(cache.root()), "VELUM_TESTBED": "1", **guest_files()}
    shown = [Share(path, writable=False) for path in (cache.root(), *shares)]
    job = Job(
        command=command,
        directory=Path.cwd(),
        shares=[Share(PROJECT, writable=True), *shown],
        environment=common | dict(environment),
        time_limit=time_limit,
        memory=memory,
        console=console,
        system=system,
    )
    for attempt in range(retries + 1):
        try:
            return Result(run(job), attempt)
        except TimeLimitError as ex:
            print(f"testbed: {ex}", file=sys.stderr, flush=True)
            return Result(TIME_LIMIT_EXCEEDED, attempt)
        except MachineDiedError as ex:
            print(f"testbed: the machine failed: {ex}", file=sys.stderr, flush=True)
            if attempt < retries:
                print(f"testbed: retry {attempt + 1} of {retries}", file=sys.stderr, flush=True)
    return Result(MACHINE_FAILED, retries)


def guest_files() -> dict[str, str]:
    """Return the environment that names the Linux guest's files, where the testbed sees them."""
    guest = linux_guest()
    named = {"KERNEL": guest.kernel, "VMLINUX": guest.vmlinux, "INITRAMFS": guest.initramfs}
    return {name: str(visible(name, path)) for name, path in named.items()}


def visible(name: str, path: Path) -> Path:
    """Return the path itself, or that of a copy in the cache if the testbed cannot see it."""
    try:
        path = path.resolve(strict=True)
    except OSError as ex:
        sys.exit(f"{name}={path}: {ex.strerror}")
    if path.is_relative_to(cache.root().resolve()) or path.is_relative_to(PROJECT):
        return path
    copy = cache.root() / "given" / name.lower()
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    return copy
