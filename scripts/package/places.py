# SPDX-License-Identifier: Apache-2.0
"""Where the package is made from, where it is made, and where its files go."""

import os
import subprocess
from pathlib import Path

__all__ = [
    "BUILD",
    "DEBIAN",
    "DIST",
    "INSTALLED_PYTHON",
    "PROJECT",
    "PYTHON",
    "RELEASES",
    "SYSTEMD",
    "epoch",
]

PROJECT = Path(__file__).resolve().parents[2]
DEBIAN = PROJECT / "deploy/debian"
SYSTEMD = PROJECT / "deploy/systemd"
BUILD = PROJECT / "build/package"
DIST = PROJECT / "dist"

PYTHON = "/usr/bin/python3"
"""Debian's, which runs what is installed: the byte code is for it, and for no other."""
INSTALLED_PYTHON = Path("usr/lib/velum/python")
"""Where Velum's modules and their dependencies are, below the root."""
RELEASES = Path("usr/lib/velum/releases")
"""Where they are once more, below a folder for each release, for those who run them."""


def epoch() -> int:
    """Return the time that everything in the package has: that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "-C", str(PROJECT), "log", "-1", "--format=%ct"]
        given = subprocess.check_output(command, text=True)
    return int(given)
