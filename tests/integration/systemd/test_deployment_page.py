# SPDX-License-Identifier: Apache-2.0
"""The page for operators does what it says, from the installation to the last file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import guests
from tests.support.documents import blocks, run
from tests.support.systemd import CONFIGS, DISKS, output, processes
from tests.testbed.jobs import PROJECT

pytestmark = pytest.mark.systemd

PAGE = PROJECT / "docs/deployment.md"


def test_every_command_of_the_page_succeeds(tmp_path: Path) -> None:
    shutil.copy(os.environ["VELUM_PACKAGE"], tmp_path / "velum_1_amd64.deb")
    # A guest that powers itself off when it is told to: each stop would last a minute else.
    shutil.copy(guests.build("button"), tmp_path / "vmlinuz")
    output("useradd", "--no-create-home", "alice")
    try:
        said = run(
            blocks(PAGE, "sh"),
            {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            tmp_path / "errors",
            folder=tmp_path,
            limit=800.0,
        )
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
