# SPDX-License-Identifier: Apache-2.0
"""The Debian package: control data, maintainer scripts, and the one file of it all."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from scripts.package.places import DEBIAN, DIST, epoch

__all__ = ["make_archive"]

_SCRIPTS = ("postinst", "prerm", "postrm")


def make_archive(root: Path, version: str) -> Path:
    """Make the package of a tree, and return where it is."""
    control = root / "DEBIAN"
    _normalize(root)
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    sums = _sums(root)
    control.mkdir()
    text = (DEBIAN / "control").read_text()
    (control / "control").write_text(
        text.replace("@VERSION@", version).replace("@SIZE@", str(size))
    )
    (control / "md5sums").write_text(sums)
    shutil.copyfile(DEBIAN / "conffiles", control / "conffiles")
    for name in _SCRIPTS:
        shutil.copyfile(DEBIAN / name, control / name)
        (control / name).chmod(0o755)
    package = DIST / f"velum_{version}_amd64.deb"
    # The threads decide where blocks end, and so what the bytes are.
    dpkg_deb = ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz"]
    subprocess.run(
        [*dpkg_deb, "--build", str(root), str(package)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch())},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return package


def _normalize(root: Path) -> None:
    """Give everything the modes it has to have, whatever the builder's umask is."""
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def _sums(root: Path) -> str:
    """Return what `dpkg --verify` compares with."""
    lines = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not name.startswith("etc/"):
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            lines.append(f"{digest}  {name}\n")
    return "".join(lines)
