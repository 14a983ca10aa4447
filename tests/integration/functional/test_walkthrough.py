# SPDX-License-Identifier: Apache-2.0
"""The walk-through of the documents works as it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import guests
from tests.support.documents import blocks, run

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.kvm
def test_walkthrough_runs_as_written(tmp_path: Path) -> None:
    """All ``sh`` blocks, in one shell that stops at the first failure."""
    commands = blocks(ROOT / "docs" / "walkthrough.md", "sh")
    assert len(commands) == 7
    variables = {"RUN": str(tmp_path), "KERNEL": str(guests.build("hello"))}
    output = run(commands, variables, tmp_path / "errors")
    assert '"state":"Running"' in output
    assert '"__vcpu0"' in output
    problem = json.loads(re.search(r'\{"type".*?\}(?=\{|$)', output, re.MULTILINE)[0])
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {"/cpus/boot_vcpus", "/cpus/max_vcpus", "/memory/size"} <= pointers
    assert "hello from the guest" in (tmp_path / "serial.log").read_text()
    assert "hello from the guest" in (tmp_path / "two.log").read_text()
