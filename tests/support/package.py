# SPDX-License-Identifier: Apache-2.0
"""The built Debian package: where it is, and what is in it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["build", "control_field", "unpack"]

ROOT = Path(__file__).resolve().parents[2]


def build(*options: str, environment: Mapping[str, str] | None = None) -> Path:
    """Build the package anew, and return its file."""
    output = subprocess.check_output(
        [sys.executable, "-m", "scripts.package", *options],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        text=True,
    )
    return ROOT / output.split()[0]


def unpack(package: Path, folder: Path) -> Path:
    """Unpack a package, with what it tells dpkg in DEBIAN, and return the folder."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


def control_field(package: Path, name: str) -> str:
    """Return a field of the package's control data."""
    return subprocess.check_output(["dpkg-deb", "--field", package, name], text=True).strip()
