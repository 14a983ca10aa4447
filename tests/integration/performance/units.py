# SPDX-License-Identifier: Apache-2.0
"""The installed package under systemd: how soon a unit answers, and how many fit.

To the worker itself come the preparation of its folders, its user, its sandbox, and systemd.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from ipc_protocol.messages import Operation
from ipc_protocol.names import RUNTIME_DIR
from tests.integration.performance.density import (
    CHECK_EVERY,
    FEW,
    MANY,
    PSS_AIM,
    RAM,
    SOME,
    START_AIM,
    TIMEOUT,
    ask,
)
from tests.integration.performance.measure import Results, wait_until
from tests.integration.performance.processes import pss_kib
from tests.support.systemd import UnitVm, systemctl

__all__ = ["installed", "measure"]


@contextlib.contextmanager
def _units(count: int) -> Iterator[list[UnitVm]]:
    """Lend units that have a file with a tiny guest, and are not started."""
    with contextlib.ExitStack() as stack:
        vms = []
        for number in range(count):
            vms.append(UnitVm(f"bench-{number}", guest="button"))
            stack.callback(vms[-1].remove)
        yield vms


def _start(results: Results) -> None:
    """Measure a worker without a VM, as every start of one has it."""
    vm = UnitVm("bench")
    try:
        started = time.monotonic()
        vm.start()
        ready = time.monotonic() - started
        wait_until(
            lambda: ask(Path(RUNTIME_DIR), vm.name, Operation.VMM_PING) is not None,
            "vmm.ping",
            interval=CHECK_EVERY,
        )
        answered = time.monotonic() - started
    finally:
        vm.remove()
    results.add("systemctl start to READY", "ms", ready * 1e3)
    results.add("systemctl start to vmm.ping", "ms", answered * 1e3, aim=START_AIM)


def _many(results: Results) -> None:
    """Measure how soon many run that are started by one command, and what one more costs."""
    with _units(MANY) as vms:
        started = time.monotonic()
        _run(vms)
        seconds = time.monotonic() - started
        results.add(f"{MANY} units at once", "VMs/s", MANY / seconds)
        systemctl("stop", *(vm.unit for vm in vms))
    with _units(SOME) as vms:
        _run(vms[:FEW])
        few = _pss(vms[:FEW])
        _run(vms[FEW:])
        each = (_pss(vms) - few) / (SOME - FEW) / 1024
        results.add("PSS of one unit more, beyond guest RAM", "MiB", each, aim=PSS_AIM)
        systemctl("stop", *(vm.unit for vm in vms))


def _run(vms: list[UnitVm]) -> None:
    """Start units, and wait for the word of the guest in each."""
    systemctl("start", *(vm.unit for vm in vms))
    for vm in vms:
        wait_until(
            lambda: "ready" in vm.said(),  # noqa: B023 - asked for before the next is
            f"the guest of {vm.name} is ready",
            timeout=TIMEOUT,
            interval=0.01,
        )


def _pss(vms: list[UnitVm]) -> int:
    return sum(pss_kib(vm.pid, RAM) for vm in vms)


def installed() -> bool:
    """Tell whether there is what this measures."""
    return Path("/usr/bin/velum-vmm").exists() and Path("/run/systemd/system").exists()


def measure(results: Results, runs: int) -> None:
    """Measure; what takes fifty units once for each five runs."""
    for run in range(runs):
        _start(results)
        if not run % 5:
            _many(results)
