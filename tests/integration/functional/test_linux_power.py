# SPDX-License-Identifier: Apache-2.0
"""A Linux guest that powers off, reboots, is asked to power off, and is paused."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.support.linux import LinuxVm
from tests.support.processes import start_worker

pytestmark = [pytest.mark.linux, pytest.mark.timeout(1500)]

COUNT = r"VELUM-COUNT (\d+) uptime=(\S+) time=(\S+)"
PAUSE = 5.0


def test_power_off_from_inside(tmp_path: Path) -> None:
    """The guest's own end leaves a VM that can be booted again."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="poweroff") as vm,
    ):
        for boots in (1, 2):
            vm.boot()
            info = worker.wait_for(state="Shutdown", boots=boots)
            assert info.last_stop is not None
            assert info.last_stop.reason == "power_off"


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        pytest.param("acpi", "reset", id="acpi"),
        pytest.param("kbd", "reset", id="i8042"),
        pytest.param("triple", "triple_fault", id="triple-fault"),
    ],
)
def test_reboot_from_inside(tmp_path: Path, method: str, reason: str) -> None:
    """By each way that a PC can be reset."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(
            worker.call, tmp_path, do="reboot", cmdline=f"quiet panic=-1 reboot={method}"
        ) as vm,
    ):
        vm.boot()
        vm.expect_ready()
        info = worker.info()
        assert info.state == "Running"
        assert info.boots >= 2
        assert info.last_stop is not None
        assert info.last_stop.reason == reason


def test_power_button(tmp_path: Path) -> None:
    """The button reaches the guest's userspace as a key."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="button") as vm,
    ):
        vm.boot()
        vm.expect(r"VELUM-BUTTON-WAIT event\d+")
        worker.call("vm.power-button")
        vm.expect("VELUM-BUTTON")
        worker.wait_for(state="Shutdown")


def test_pause_and_resume_with_a_sane_clock(tmp_path: Path) -> None:
    """A paused guest does nothing; a resumed one goes on, and its clocks agree."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="count", vcpus=2) as vm,
    ):
        vm.boot()
        vm.expect(COUNT)
        began = time.monotonic()
        worker.call("vm.pause")
        paused = vm.output()
        time.sleep(PAUSE)
        assert vm.output() == paused
        last = re.findall(rf"^{COUNT}\n", paused, re.MULTILINE)[-1]
        vm.skip_output()
        worker.call("vm.resume")
        first = vm.expect(COUNT).groups()
        after = vm.expect(COUNT).groups()
        elapsed = time.monotonic() - began
        # The line that it was paused in does not count as one of the two.
        assert int(first[0]) - int(last[0]) in {1, 2}
        assert int(after[0]) == int(first[0]) + 1
        for earlier, later in ((last, first), (first, after)):
            uptime, wall = (float(later[index]) - float(earlier[index]) for index in (1, 2))
            assert 0 < uptime < elapsed + 1
            assert wall == pytest.approx(uptime, abs=0.2)
