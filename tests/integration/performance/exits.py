# SPDX-License-Identifier: Apache-2.0
"""What one port exit costs: our run loop beside the least that runs a guest.

Both in CPU time of the thread that runs the vCPU, which other processes do not change.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.integration.performance.measure import Results, wait_until
from tests.integration.performance.processes import ROOT
from tests.support.guests import build
from tests.support.machines import GuestVm

__all__ = ["bare_program", "measure"]

_SOURCE = Path(__file__).parent / "bare_kvm_run.c"
_WARM_UP = 256
_SECONDS = 0.1


def bare_program() -> Path:
    """Compile the bare loop, unless it has been."""
    program = ROOT / "build/bare_kvm_run"
    if not program.exists() or program.stat().st_mtime < _SOURCE.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["gcc", "-O2", "-o", str(program), str(_SOURCE)], check=True)
    return program


def _bare(program: Path, exits: int) -> float:
    command = [str(program), str(build("exits")), str(exits)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def _cpu_time(thread_name: str) -> int:
    """Return the nanoseconds that the thread of this process has been on a CPU."""
    for thread in Path("/proc/self/task").iterdir():
        if (thread / "comm").read_text().strip() == thread_name:
            return int((thread / "schedstat").read_text().split()[0])
    raise LookupError(f"no thread {thread_name}")


def _shim() -> float:
    with GuestVm("exits") as guest:

        def look() -> tuple[int, int]:
            guest.vm.pause()
            return guest.vm.counters(0).unclaimed_io, _cpu_time("vcpu0")

        guest.run()
        wait_until(lambda: guest.vm.counters(0).unclaimed_io > _WARM_UP, "the first exits")
        before, started = look()
        guest.vm.resume()
        time.sleep(_SECONDS)
        after, ended = look()
        return (ended - started) / (after - before)


def measure(results: Results, runs: int) -> None:
    """Measure both, in turn."""
    program = bare_program()
    for _ in range(runs):
        shim = _shim()
        bare = _bare(program, max(_WARM_UP, int(_SECONDS * 1e9 / shim)))
        results.add("port exit, bare KVM_RUN loop", "ns", bare)
        results.add("port exit, velum", "ns", shim)
        results.add("port exit, velum / bare", "x", shim / bare, aim=1.2)
