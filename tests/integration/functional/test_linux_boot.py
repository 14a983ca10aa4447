# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel boots to userspace, time after time, and finds nothing to complain about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guests.linux import linux_guest
from tests.support.linux import LinuxVm
from tests.support.processes import start_worker

pytestmark = [pytest.mark.linux, pytest.mark.timeout(1500)]

BOOTS = 10
SLOW = re.compile(r"hrtimer: interrupt took \d+ ns$")
"""Says how slow the processor is, not what the machine is: in the testbed both are emulated."""


@pytest.mark.parametrize(
    ("vcpus", "memory"),
    [
        pytest.param(1, 512, id="one-vcpu"),
        pytest.param(2, 512, id="two-vcpus"),
        pytest.param(1, 6144, id="six-gib"),
    ],
)
def test_boots_ten_times_in_a_row(tmp_path: Path, vcpus: int, memory: int) -> None:
    """With all of its vCPUs and all of its memory, also that above 4 GiB."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="stay", vcpus=vcpus, memory=memory) as vm,
    ):
        for boot in range(1, BOOTS + 1):
            vm.boot()
            output = vm.output()
            assert f"\nvCPUs: {vcpus}\n" in output
            found = re.search(r"^memory: (\d+) kB$", output, re.MULTILINE)
            assert found is not None
            # The kernel keeps some of it for itself.
            assert 0.9 * memory < int(found[1]) / 1024 < memory
            info = worker.info()
            assert (info.state, info.boots) == ("Running", boot)
            worker.call("vm.shutdown")


def test_boots_an_elf_kernel_by_pvh(tmp_path: Path) -> None:
    """The same kernel, taken out of its bzImage."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="stay", kernel=linux_guest().vmlinux) as vm,
    ):
        vm.boot()
        assert worker.info().state == "Running"


@pytest.mark.parametrize("vcpus", [1, 2])
def test_kernel_warns_of_nothing(tmp_path: Path, vcpus: int) -> None:
    """Neither of firmware tables nor of anything else about the machine."""
    with (
        start_worker(tmp_path) as worker,
        LinuxVm(worker.call, tmp_path, do="warnings", vcpus=vcpus) as vm,
    ):
        vm.boot()
        vm.expect("VELUM-WARNINGS-END")
        _, begin, rest = vm.output().partition("VELUM-WARNINGS-BEGIN\n")
        warnings, _, _ = rest.partition("VELUM-WARNINGS-END\n")
        assert begin
        assert [line for line in warnings.splitlines() if not SLOW.search(line)] == []
