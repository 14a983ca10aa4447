# SPDX-License-Identifier: Apache-2.0
"""The release before this one, as it was: its programs, for tests of both running together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbed.cache import cached, path_of

__all__ = ["COMMIT", "is_known", "previous_environment"]

ROOT = Path(__file__).resolve().parents[2]

COMMIT = "2cff6a6a2dd02f2bbda97fa79758ba4d061baf76"
"""The last one that speaks only the previous version of the protocol."""

_PARTS = ("services", "shared", "native", "setup.py", "pyproject.toml", "README.md")
_FOLDERS = ("services", "shared", "native")
_NAME = "previous"
_NOT_FOR_IT = {"CFLAGS", "LD_PRELOAD", "PYTHONPATH", "VELUM_SANITIZE"}
"""What instruments the present release."""


def is_known() -> bool:
    """Tell whether it was built before, or this is a clone that has it."""
    if path_of(_NAME, [COMMIT]).is_dir():
        return True
    if shutil.which("git") is None:
        return False
    wanted = f"{COMMIT}^{{commit}}"
    found = subprocess.run([*_git(), "cat-file", "-e", wanted], check=False, capture_output=True)
    return found.returncode == 0


def previous_environment() -> dict[str, str]:
    """Return what a process needs in its environment to be of that release."""
    place = cached(_NAME, [COMMIT], _build)
    return {"PYTHONPATH": os.pathsep.join(str(place / each) for each in _FOLDERS)}


def _build(place: Path) -> None:
    archive = subprocess.run([*_git(), "archive", COMMIT, *_PARTS], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_IT}
    subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=place,
        env=environment,
        check=True,
    )


def _git() -> tuple[str, ...]:
    return ("git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}")
