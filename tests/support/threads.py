# SPDX-License-Identifier: Apache-2.0
"""What the threads of a process of ours could do if somebody else had taken them over."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = ["Opened", "open_from_threads"]

_SOURCE = Path(__file__).with_suffix(".c").with_name("open_from_threads.c")


class Opened(NamedTuple):
    """What became of one attempt."""

    thread: str
    """The thread's name."""
    tid: int
    path: str
    errno: int
    """0 where the file was opened."""


def open_from_threads(pid: int, flags: int, *paths: Path, only: str = "") -> list[Opened]:
    """Have each thread of a process open files, as code that took it over would.

    Args:
        pid: The process; ours to debug.
        flags: Of ``open(2)``.
        paths: The files.
        only: The name of the threads to take; all when it is empty.

    Raises:
        CalledProcessError: The process did not live through it.
    """
    command = [_program(), str(pid), str(flags), only, *map(str, paths)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split(" ", 3) for line in output.splitlines()]
    return [
        Opened(name, int(tid), str(paths[int(index)]), max(0, -int(result)))
        for tid, index, result, name in lines
    ]


@functools.cache
def _program() -> str:
    folder = _folder()
    program = Path(folder.name) / "open_from_threads"
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", program, _SOURCE], check=True)
    return str(program)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="velum-test-")
