# SPDX-License-Identifier: Apache-2.0
"""The walk-through of the documents works as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import guests

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.kvm
def test_walkthrough_runs_as_written(tmp_path: Path) -> None:
    """All ``sh`` blocks, in one shell that stops at the first failure."""
    text = (ROOT / "docs" / "walkthrough.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    # In the tier of sanitizers, their run-time library is for Python: curl hangs with it.
    script = "\n".join(['curl() { env --unset=LD_PRELOAD curl "$@"; }', *blocks])
    environment = os.environ | {
        "RUN": str(tmp_path),
        "KERNEL": str(guests.build("hello")),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"state":"Running"' in done.stdout
    assert '"__vcpu0"' in done.stdout
    problem = json.loads(re.search(r'\{"type".*?\}(?=\{|$)', done.stdout, re.MULTILINE)[0])
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {"/cpus/boot_vcpus", "/cpus/max_vcpus", "/memory/size"} <= pointers
    assert "hello from the guest" in (tmp_path / "serial.log").read_text()
    assert "hello from the guest" in (tmp_path / "two.log").read_text()
