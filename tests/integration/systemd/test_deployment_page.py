# SPDX-License-Identifier: Apache-2.0
"""What operators are told to do works: the README's few lines, and the page, to its last file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import guests
from tests.support.documents import blocks, run
from tests.support.systemd import CONFIGS, DISKS, output, processes, systemctl
from tests.testbed.jobs import PROJECT

pytestmark = pytest.mark.systemd

README = PROJECT / "README.md"
PAGE = PROJECT / "docs/deployment.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the package, and a guest in a kernel's place."""
    shutil.copy(os.environ["VELUM_PACKAGE"], tmp_path / "velum_1_amd64.deb")
    # A guest that powers itself off when it is told to: each stop would last a minute else.
    shutil.copy(guests.build("button"), tmp_path / "vmlinuz")
    return tmp_path


def as_root(commands: list[str], folder: Path) -> str:
    """Run blocks of a document as an operator's shell would; return what they say."""
    return run(
        commands,
        {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        folder / "errors",
        folder=folder,
        limit=800.0,
    )


def test_one_package_and_one_curl_boot_a_vm(folder: Path) -> None:
    try:
        said = as_root(blocks(README, "sh"), folder)
    finally:
        systemctl("disable", "--now", "velum-vmm@web-1", "velum-api.socket", check=False)
        (CONFIGS / "web-1.json").unlink(missing_ok=True)
    assert 'Status: "web-1: Running, 1 vCPU, 256 MiB, boot 1"' in said


def test_every_command_of_the_page_succeeds(folder: Path) -> None:
    output("useradd", "--no-create-home", "alice")
    try:
        said = as_root(blocks(PAGE, "sh"), folder)
    finally:
        output("userdel", "alice")
    assert 'Status: "web-1: Running, 1 vCPU, 128 MiB, boot 1"' in said
    assert "button ready" in said
    assert f"MemoryMax={512 << 20}" in said
    assert "TasksMax=200" in said
    assert "net-1-tap" in said
    assert "velum_" in said
    assert processes() == []
    assert not CONFIGS.exists()
    assert not DISKS.exists()
