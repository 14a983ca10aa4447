# SPDX-License-Identifier: Apache-2.0
"""Series of measurements, and where they were taken."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Results", "environment", "has_fast_kvm", "percentile", "wait_until"]


class Results:
    """Named series, in the order in which they were begun."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], list[float]] = {}
        self._aims: dict[str, float] = {}

    def add(self, name: str, unit: str, value: float, *, aim: float | None = None) -> None:
        """Note one run's value; the median is to be at most the aim."""
        self._series.setdefault((name, unit), []).append(value)
        if aim is not None:
            self._aims[name] = aim

    def as_json(self) -> list[dict[str, Any]]:
        """Return the series with their medians."""
        return [
            {
                "name": name,
                "unit": unit,
                "median": statistics.median(runs),
                "min": min(runs),
                "max": max(runs),
                "aim": self._aims.get(name),
                "runs": runs,
            }
            for (name, unit), runs in self._series.items()
        ]


def percentile(values: list[float], rank: float) -> float:
    """Return the smallest value that `rank` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * rank // 100) - 1)]


def wait_until(
    condition: Callable[[], bool], what: str, *, timeout: float = 60.0, interval: float = 0.001
) -> None:
    """Wait for the condition, looking again after each interval."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(interval)


def _cpu() -> tuple[str, set[str]]:
    model, flags = "unknown", set[str]()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            flags = set(value.split())
            break
    return model, flags


def has_fast_kvm() -> bool:
    """Tell whether guests run on the CPU's own virtualization."""
    return bool(_cpu()[1] & {"vmx", "svm"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def environment() -> dict[str, Any]:
    """Describe the machine."""
    modules = {path.name for path in Path("/sys/module").glob("kvm*")} - {"kvm"}
    qemu = shutil.which("qemu-system-x86_64")
    version = "" if qemu is None else subprocess.check_output([qemu, "--version"], text=True)
    return {
        "cpu": _cpu()[0],
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "kvm": ", ".join(sorted(modules)) or "built in",
        "virtualization": "hardware" if has_fast_kvm() else "software",
        "emulated": "TCG" in _cpu()[0],
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": platform.python_version(),
        "qemu": version.partition("\n")[0],
    }
