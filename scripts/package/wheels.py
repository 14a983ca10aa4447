# SPDX-License-Identifier: Apache-2.0
"""The wheels: Velum's own, and those of what it needs at run time, in the tested versions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from scripts.package.places import BUILD, DIST, PROJECT, epoch

__all__ = ["make_wheels", "requirements"]

_NATIVE = BUILD / "native"


def make_wheels() -> list[Path]:
    """Fill dist/ with the wheels of one installation, and return them."""
    DIST.mkdir(exist_ok=True)
    wheels = [_own_wheel(), *_dependencies(requirements())]
    for stray in set(DIST.glob("*.whl")) - set(wheels):
        stray.unlink()
    return wheels


def requirements() -> dict[str, str]:
    """Return what Velum needs at run time, directly or not, and the version in use here."""
    found: dict[str, str] = {}
    left = ["velum"]
    while left:
        for text in metadata.requires(left.pop()) or ():
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            name = canonicalize_name(requirement.name)
            if wanted and name not in found:
                found[name] = metadata.version(name)
                left.append(name)
    return found


def _own_wheel() -> Path:
    """Build Velum's wheel; of the C core, only what changed is compiled."""
    for made in _NATIVE.glob("lib.*"):
        shutil.rmtree(made)  # a module that has been removed would still be in it
    folder = BUILD / "own"
    shutil.rmtree(folder, ignore_errors=True)
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(epoch()),
        # No path of this machine in it: neither in debug information nor in symbols.
        "CFLAGS": "-g0 -fstack-protector-strong -D_FORTIFY_SOURCE=2",
        "LDFLAGS": "-s",
    }
    for name in ("VELUM_SANITIZE", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet"]
    build = ["build", f"--build-base={_NATIVE}", "bdist_wheel", f"--dist-dir={folder}"]
    subprocess.run([*command, *build], cwd=PROJECT, env=environment, check=True)
    (wheel,) = folder.glob("*.whl")
    return Path(shutil.move(wheel, DIST / wheel.name))


def _dependencies(wanted: dict[str, str]) -> list[Path]:
    """Return the wheels of these versions, from dist/ or from the package index."""
    missing = [
        f"{name}=={wanted[name]}" for name in sorted(wanted.keys() - _present(wanted).keys())
    ]
    if missing:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        download = ["download", "--no-deps", "--only-binary=:all:", f"--dest={DIST}"]
        subprocess.run([*pip, *download, *missing], check=True)
    present = _present(wanted)
    return [present[name] for name in sorted(wanted)]


def _present(wanted: dict[str, str]) -> dict[str, Path]:
    paths = DIST.glob("*.whl")
    return {name: path for name, version, path in _parsed(paths) if wanted.get(name) == version}


def _parsed(paths: Iterable[Path]) -> Iterable[tuple[str, str, Path]]:
    for path in paths:
        name, version, _, _ = parse_wheel_filename(path.name)
        yield name, str(version), path
