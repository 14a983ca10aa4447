# SPDX-License-Identifier: Apache-2.0
"""The house keeps its shape: which package may import which, and what a file looks like."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "api_server": ROOT / "services" / "api_server",
    "ipc_protocol": ROOT / "shared" / "ipc_protocol",
    "kvm_shim": ROOT / "native" / "kvm_shim",
    "service_manager": ROOT / "shared" / "service_manager",
    "velumctl": ROOT / "services" / "velumctl",
    "vmm_worker": ROOT / "services" / "vmm_worker",
}

ARROWS = {
    "api_server": {"ipc_protocol", "service_manager"},
    "ipc_protocol": set(),
    "kvm_shim": set(),
    "service_manager": set(),
    "velumctl": {"ipc_protocol"},
    "vmm_worker": {"ipc_protocol", "kvm_shim", "service_manager"},
}

LIBRARIES = {
    "api_server": {"falcon", "gunicorn", "msgspec", "prometheus_client"},
    "ipc_protocol": {"msgpack", "msgspec", "zmq"},
    "kvm_shim": {"cffi"},
    "service_manager": set(),
    "velumctl": {"click", "msgspec", "rich", "yaml"},
    "vmm_worker": {"msgspec", "zmq"},
}
"""What each may import beside the standard library."""

FORBIDDEN = {
    "api_server": {"fcntl", "mmap"},
    "ipc_protocol": {"asyncio", "http", "mmap", "urllib"},
    "kvm_shim": {"http", "logging"},
    "service_manager": {"asyncio", "http", "mmap", "urllib"},
    "velumctl": {"asyncio", "mmap"},
    "vmm_worker": {"asyncio", "http", "urllib"},
}
"""Parts of the standard library that are another package's business."""

SOURCES = {".c", ".h", ".S", ".ld", ".py", ".sh"}
MAX_LINES = 500
MAX_COLUMNS = 100


def sources() -> Iterator[Path]:
    """Find every file that a person wrote as a program."""
    for top in (".ci", "deploy", "native", "scripts", "services", "shared", "tests"):
        for directory, below, names in os.walk(ROOT / top):
            below[:] = [name for name in below if name not in {"__pycache__", "build", ".cache"}]
            for path in (Path(directory, name) for name in sorted(names)):
                if path.suffix in SOURCES and path.name != "_native.c":
                    yield path
    yield from (ROOT / name for name in ("Makefile", "setup.py"))


def imports(path: Path) -> Iterator[str]:
    """Find the top-level names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield (node.module or "").partition(".")[0]


def imported_by(package: str) -> dict[str, set[Path]]:
    """Return what the files of a package import, and which of them do."""
    found: dict[str, set[Path]] = {}
    paths = list(PACKAGES[package].rglob("*.py"))
    assert paths
    for path in paths:
        for name in imports(path):
            found.setdefault(name, set()).add(path.relative_to(ROOT))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_run_one_way(package: str) -> None:
    allowed = {package} | ARROWS[package] | LIBRARIES[package]
    wrong = {
        name: paths
        for name, paths in imported_by(package).items()
        if name not in allowed
        and (name not in sys.stdlib_module_names or name in FORBIDDEN[package])
    }
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed_and_say_what_they_export(package: str) -> None:
    assert (PACKAGES[package] / "py.typed").is_file()
    for path in PACKAGES[package].rglob("*.py"):
        names = [
            target.id
            for node in ast.parse(path.read_bytes()).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        ]
        # What is only run exports nothing, and a package exports what it says if anything.
        if path.name not in {"__init__.py", "__main__.py", "build_native.py"}:
            assert "__all__" in names, path


@pytest.mark.parametrize("module", ["client", "server"])
def test_the_ipc_loads_no_heavy_modules(module: str) -> None:
    """One worker runs per VM: what it imports is paid for by each."""
    script = f"import sys, ipc_protocol.{module}; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(PACKAGES["ipc_protocol"].parent)}
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"asyncio", "difflib", "http", "ssl", "multiprocessing", "ipc_protocol.config_unbuilt"}
    assert not heavy & set(loaded)


def faults(path: Path) -> Iterator[str]:
    """Find what is wrong with the look of a file; the linter knows more about Python's."""
    lines = path.read_text().splitlines()
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
        yield "no licence"
    if len(lines) > MAX_LINES:
        yield f"{len(lines)} lines"
    for number, line in enumerate(lines, start=1):
        if line != line.rstrip():
            yield f"line {number} ends in white space"
        if path.suffix in {".c", ".h"} and len(line) > MAX_COLUMNS:
            yield f"line {number} has {len(line)} columns"


def test_every_source_has_its_licence_and_fits_in_a_head() -> None:
    found = {str(path.relative_to(ROOT)): list(faults(path)) for path in sources()}
    assert len(found) > 50
    assert not {path: wrong for path, wrong in found.items() if wrong}


def test_nothing_generated_is_kept() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know what is kept")
    listing = subprocess.run(
        [git, "-c", f"safe.directory={ROOT}", "ls-files", "-ci", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout.split() == []
