# SPDX-License-Identifier: Apache-2.0
"""velumctl as a test runs it: in this process, or as one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from velumctl.main import run

__all__ = ["Outcome", "Velumctl"]


class Outcome(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


class Velumctl:
    """The command for one server.

    Args:
        socket: Where the server listens.
    """

    def __init__(self, socket: Path) -> None:
        self._arguments = ("--socket", str(socket))

    def __call__(self, *arguments: object) -> Outcome:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*self._arguments, *map(str, arguments)])
        return Outcome(code, out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def start(self, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command as a process, with pipes unless the options say otherwise.

        It does not outlive the block.
        """
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            [sys.executable, "-m", "velumctl", *self._arguments, *map(str, arguments)],
            **{"env": environment, **pipes, **options},
        ) as process:
            try:
                yield process
            finally:
                process.kill()
