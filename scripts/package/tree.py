# SPDX-License-Identifier: Apache-2.0
"""The files of the package, as they will lie below the root."""

import gzip
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from scripts.package.copyright import copyright_text
from scripts.package.manual import PAGES, render
from scripts.package.places import DEBIAN, INSTALLED_PYTHON, PROJECT, PYTHON, RELEASES, SYSTEMD

__all__ = ["make_tree"]

_UNITS = "lib/systemd/system"
_DOCUMENTS = "usr/share/doc/velum"
_COPIES = {
    "etc/velum": (DEBIAN, "access.toml"),
    _UNITS: (SYSTEMD, "*.service *.socket *.slice *.target"),
    f"{_UNITS}/velum-.service.d": (SYSTEMD, "velum-.service.d/*.conf"),
    "usr/lib/sysusers.d": (SYSTEMD, "sysusers.d/*.conf"),
    "usr/lib/tmpfiles.d": (SYSTEMD, "tmpfiles.d/*.conf"),
    "lib/udev/rules.d": (SYSTEMD, "udev/*.rules"),
    _DOCUMENTS: (PROJECT, "README.md LICENSE"),
    f"{_DOCUMENTS}/docs": (PROJECT, "docs/*.md docs/*.json"),
    f"{_DOCUMENTS}/examples": (SYSTEMD, "examples/*"),
}
"""Folder of the package: where its files are now, and which they are."""
_EMPTY = ("etc/velum/vms", "var/lib/velum/images")
_COMMANDS = {
    "usr/bin/velum-api": "api_server.main",
    "usr/bin/velum-vmm": "vmm_worker.__main__",
    "usr/bin/velumctl": "velumctl.main",
    "usr/lib/velum/prepare-vm": "vmm_worker.prepare.main",
}


_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/velumctl",
    "fish": "usr/share/fish/vendor_completions.d/velumctl.fish",
    "zsh": "usr/share/zsh/vendor-completions/_velumctl",
}


def make_tree(root: Path, wheels: Iterable[Path], release: str) -> None:
    """Put every file of the package into a folder that stands for the root.

    Args:
        root: That folder, empty.
        wheels: What has the modules.
        release: The name of the folder that they are run from.
    """
    for folder, (source, patterns) in _COPIES.items():
        for pattern in patterns.split():
            for path in sorted(source.glob(pattern)):
                _copy(path, root / folder / path.name)
    for folder in _EMPTY:
        (root / folder).mkdir(parents=True)
    _write_compressed(root / _DOCUMENTS / "changelog.gz", (PROJECT / "CHANGELOG.md").read_text())
    for name in PAGES:
        _write_compressed(root / f"usr/share/man/man{name[-1]}/{name}.gz", render(name))
    _write_commands(root)
    for shell, name in _COMPLETIONS.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(_velumctl("completion", shell))
    modules = root / INSTALLED_PYTHON
    _unpack(wheels, modules)
    (root / _DOCUMENTS / "copyright").write_text(copyright_text(modules))
    _compile(modules, f"/{RELEASES}/{release}")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _write_compressed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _velumctl(*arguments: str) -> str:
    command = [sys.executable, "-m", "velumctl", *arguments]
    return subprocess.check_output(command, cwd=PROJECT, text=True)


def _write_commands(root: Path) -> None:
    """Write the commands: each finds its modules and nothing that a user put elsewhere."""
    template = (DEBIAN / "command").read_text()
    for name, module in _COMMANDS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.replace("@MODULE@", module))
        path.chmod(0o755)


def _unpack(wheels: Iterable[Path], folder: Path) -> None:
    """Unpack the modules of wheels; their own commands and documents are not ours to install."""
    folder.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            archive.extractall(folder, [name for name in names if not _is_data(name)])


def _is_data(name: str) -> bool:
    return name.partition("/")[0].endswith(".data")


def _compile(folder: Path, place: str) -> None:
    """Write the byte code, which nobody could after the installation, and whole for good.

    Args:
        folder: What has the modules.
        place: Where it will be: Python corrects the path in each function that says otherwise.
    """
    compiler = [PYTHON, "-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    subprocess.run(
        [*compiler, "-s", str(folder), "-p", place, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
    )
