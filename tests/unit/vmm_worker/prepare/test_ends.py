# SPDX-License-Identifier: Apache-2.0
"""The journal says what an end of a worker means."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmm_worker.prepare.ends import explain

FILE = Path("/etc/velum/vms/web-1.json")


def test_who_runs_out_of_memory_is_told_which_limit_to_raise() -> None:
    line = explain("oom-kill", "web-1", FILE)
    assert line is not None
    assert line.startswith("web-1: out of memory")
    assert f"raise host.memory_max in {FILE}" in line


@pytest.mark.parametrize("result", ["success", "exit-code", "signal", "no such"])
def test_what_the_worker_or_systemd_says_itself_is_not_said_again(result: str) -> None:
    assert explain(result, "web-1", FILE) is None
