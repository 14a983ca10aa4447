# SPDX-License-Identifier: Apache-2.0
"""The walk-through of the documents works as it is written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import guests

ROOT = Path(__file__).resolve().parents[3]


def run(script: str, environment: dict[str, str], errors: Path) -> str:
    """Run a script and return its output; nothing that it started outlives it."""
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            ["bash", "-euc", script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as shell,
    ):
        try:
            output, _ = shell.communicate(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output + errors.read_text()
    return output


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
    output = run(script, environment, tmp_path / "errors")
    assert '"state":"Running"' in output
    assert '"__vcpu0"' in output
    problem = json.loads(re.search(r'\{"type".*?\}(?=\{|$)', output, re.MULTILINE)[0])
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {"/cpus/boot_vcpus", "/cpus/max_vcpus", "/memory/size"} <= pointers
    assert "hello from the guest" in (tmp_path / "serial.log").read_text()
    assert "hello from the guest" in (tmp_path / "two.log").read_text()
