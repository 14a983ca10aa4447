# SPDX-License-Identifier: Apache-2.0
"""From the start of a VMM to the login prompt of the Debian guest: Velum and QEMU, in turn."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.guests.debian import Debian, command_line
from tests.integration.performance.beside import Comparisons, Figures
from tests.integration.performance.processes import cpu_seconds, running
from tests.support.agent import Agent

__all__ = ["measure"]

_PROMPT = b"velum login: "
_TIMEOUT = 400.0
_MEMORY = 512


def _velum(guest: Debian, disk: Path, directory: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "vmm_worker", "--name", "bench", "--runtime-dir", str(directory)),
        *("--log-level", "warning", "--memory", f"size={_MEMORY}M", "--cpus", "boot=1"),
        *("--kernel", str(guest.kernel), "--initramfs", str(guest.initramfs)),
        *("--cmdline", command_line(), "--serial", f"socket={directory}/serial"),
        *("--console", "off", "--disk", f"path={disk}"),
    ]


def _qemu(guest: Debian, disk: Path, directory: Path) -> list[str]:
    return [
        *("qemu-system-x86_64", "-M", "q35", "-enable-kvm", "-cpu", "host"),
        *("-m", str(_MEMORY), "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initramfs)),
        *("-append", command_line(), "-serial", f"unix:{directory}/serial,server=on,wait=off"),
        *("-object", "iothread,id=io", "-device", "virtio-rng-pci"),
        *("-drive", f"id=disk,if=none,file={disk},format=raw,cache=writeback,aio=io_uring"),
        *("-device", "virtio-blk-pci,drive=disk,iothread=io"),
    ]


def _login(command: list[str], directory: Path) -> Figures:
    started = time.monotonic()
    with running(command) as process, Agent.connect(directory / "serial", timeout=60) as line:
        line.console.expect(_PROMPT, _TIMEOUT)
        took = time.monotonic() - started
        figures = Figures(took, cpu_seconds({process.pid}))
        process.kill()  # what is measured is over
    return figures


def measure(results: Comparisons, guest: Debian, runs: int) -> None:
    """Boot each from a disk of its own, again and again."""
    with tempfile.TemporaryDirectory(prefix="velum-bench-", dir="/var/tmp") as folder:
        places = {name: Path(folder, name) for name in ("velum", "qemu")}
        for place in places.values():
            place.mkdir()
            guest.copy_disk(place / "disk.img")
        for run in range(runs):
            sys.stderr.write(f"logins: run {run + 1} of {runs}\n")
            velum, qemu = (
                _login(command(guest, place / "disk.img", place), place)
                for command, place in zip((_velum, _qemu), places.values(), strict=True)
            )
            results.add("Debian, process start to login", "s", "s", velum, qemu)
