# SPDX-License-Identifier: Apache-2.0
"""Documents whose commands are run as they stand."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["blocks", "run"]


def blocks(document: Path, language: str) -> list[str]:
    """Return the text of each fenced block of that language."""
    fenced = rf"^```{language}\n(.*?)^```"
    return re.findall(fenced, document.read_text(), re.MULTILINE | re.DOTALL)


def run(
    commands: list[str],
    variables: Mapping[str, str],
    errors: Path,
    *,
    folder: Path | None = None,
    limit: float = 100.0,
) -> str:
    """Run blocks in one shell that stops at the first failure, and return its output.

    Args:
        commands: The blocks.
        variables: More of its environment; its own programs are those of this Python's.
        errors: Where its standard error goes.
        folder: Where it runs. Nothing that it started outlives it.
        limit: Seconds for all of them together.
    """
    # In the tier of sanitizers, their run-time library is for Python: curl hangs with it.
    script = "\n".join(['curl() { env --unset=LD_PRELOAD curl "$@"; }', *commands])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            ["bash", "-euc", script],
            cwd=folder,
            env={**os.environ, "PATH": path, **variables},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as shell,
    ):
        try:
            output, _ = shell.communicate(timeout=limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output + errors.read_text()
    return output
