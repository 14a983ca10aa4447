# SPDX-License-Identifier: Apache-2.0
"""The Debian package: control data, maintainer scripts, and the one file of it all."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ipc_protocol.version import VERSION
from scripts.package.places import DEBIAN, DIST, epoch

__all__ = ["make_archive", "package_version", "release_name"]

_SCRIPTS = ("postinst", "prerm", "postrm")


def package_version(revision: int | None) -> str:
    """Return the version of a package, which a revision makes a later one."""
    return VERSION if revision is None else f"{VERSION}+{revision}"


def release_name(version: str, wheels: Iterable[Path]) -> str:
    """Return what tells the modules of a package from those of every other one."""
    contents = hashlib.sha256()
    for wheel in wheels:
        contents.update(wheel.read_bytes())
    return f"{version}-{contents.hexdigest()[:12]}"


def make_archive(root: Path, version: str, release: str) -> Path:
    """Make the package of a tree, and return where it is."""
    control = root / "DEBIAN"
    _normalize(root)
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    sums = _sums(root)
    control.mkdir()
    values = {"@VERSION@": version, "@SIZE@": str(size), "@RELEASE@": release}
    for name in ("control", "conffiles", *_SCRIPTS):
        text = (DEBIAN / name).read_text()
        for key, value in values.items():
            text = text.replace(key, value)
        (control / name).write_text(text)
    for name in _SCRIPTS:
        (control / name).chmod(0o755)
    (control / "md5sums").write_text(sums)
    package = DIST / f"velum_{version}_amd64.deb"
    # One thread: how many there are decides where blocks end, and so what the bytes are.
    dpkg_deb = ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zzstd", "-z10"]
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
