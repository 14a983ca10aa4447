# SPDX-License-Identifier: Apache-2.0
"""Boots of one Linux guest by Velum and by QEMU, in turn, on the same kernel and initramfs."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from tests.guests.linux import READY, Guest
from tests.integration.performance.measure import Results, wait_until
from tests.integration.performance.processes import pss_kib, running, service
from tests.support.guests import build

__all__ = ["measure"]

_CMDLINE = "console=ttyS0 quiet panic=-1 reboot=t"
_MEMORY = 512
_TIMEOUT = 120.0
_USERSPACE = "stamp_0x41_us"


def _qemu(machine: str, guest: Guest) -> list[str]:
    return [
        *("qemu-system-x86_64", "-M", machine, "-enable-kvm", "-cpu", "host"),
        *("-m", str(_MEMORY), "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", "stdio"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initramfs), "-append", _CMDLINE),
    ]


def _velum(guest: Guest, kernel: str, directory: str) -> list[str]:
    return [
        *(sys.executable, "-m", "vmm_worker", "--name", "bench", "--runtime-dir", directory),
        *("--log-level", "warning", "--memory", f"size={_MEMORY}M", "--cpus", "boot=1"),
        *("--serial", "tty", "--kernel", kernel),
        *("--initramfs", str(guest.initramfs), "--cmdline", _CMDLINE),
    ]


def _peers(guest: Guest, directory: str) -> Iterator[tuple[str, list[str]]]:
    yield "velum", _velum(guest, str(guest.kernel), directory)
    yield "qemu microvm", _qemu("microvm,rtc=on", guest)
    yield "qemu q35", _qemu("q35", guest)
    yield "velum, vmlinux", _velum(guest, str(guest.vmlinux), directory)


def _wait_for_marker(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    output = b""
    deadline = time.monotonic() + _TIMEOUT
    while READY.encode() not in output:
        left = deadline - time.monotonic()
        if not select.select([process.stdout], [], [], max(0.0, left))[0]:
            raise TimeoutError(f"no {READY} in {_TIMEOUT} s: {output[-2000:].decode()}")
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            raise EOFError(f"ended before {READY}: {output[-2000:].decode()}")
        output += data


def _from_process_start(results: Results, name: str, command: list[str]) -> None:
    started = time.monotonic()
    with running(command, stdout=subprocess.PIPE) as process:
        _wait_for_marker(process)
        results.add(f"process start to userspace, {name}", "s", time.monotonic() - started)
        aim = 30 if name == "velum" else None
        results.add(f"PSS beyond guest RAM, {name}", "MiB", pss_kib(process.pid) / 1024, aim=aim)
        process.kill()  # what is measured is over, and this guest ignores a power button


def _from_request(results: Results, name: str, payload: dict[str, str], last: str) -> None:
    """Boot by the API, and ask for the times at which the guest reached what."""
    config = {"payload": payload, "memory": {"size": _MEMORY << 20}, "serial": {"mode": "Null"}}
    with service() as started, started.client() as client:

        def counters() -> dict[str, dict[str, Any]]:
            answer: dict[str, dict[str, Any]] = client.get("/api/v1/vm.counters").json
            return answer

        def operate(operation: str, body: Any = None) -> None:
            answer = client.put(f"/api/v1/vm.{operation}", body)
            if not 200 <= answer.status < 300:
                raise RuntimeError(f"vm.{operation}: {answer.status} {answer.body!r}")

        operate("create", config)
        operate("boot")
        # The guest's own stamps are what counts; to ask often would slow it down.
        wait_until(lambda: last in counters()["__boot"], last, timeout=_TIMEOUT, interval=0.2)
        now = counters()
        aim = 15 if last != _USERSPACE else None
        first = now["__boot"]["first_instruction_us"] / 1e3
        results.add(f"vm.boot to first instruction, {name}", "ms", first, aim=aim)
        if last == _USERSPACE:
            results.add(f"vm.boot to userspace, {name}", "s", now["__boot"][_USERSPACE] / 1e6)
            for kind in ("io", "mmio", "hlt"):
                exits = now["__vcpu0"][f"exits_{kind}"]
                results.add(f"exits to userspace, {name}, {kind}", "exits", exits)
        operate("delete")


def measure_tiny(results: Results, runs: int) -> None:
    """Measure what a boot costs where the image takes no time to load."""
    for _ in range(runs):
        payload = {"kernel": str(build("hello"))}
        _from_request(results, "tiny guest", payload, "first_instruction_us")


def measure(results: Results, guest: Guest, runs: int) -> None:
    """Measure every peer in turn, so that all meet the same moods of the machine."""
    payload = {"initramfs": str(guest.initramfs), "cmdline": _CMDLINE}
    for run in range(runs):
        sys.stderr.write(f"boots: run {run + 1} of {runs}\n")
        with tempfile.TemporaryDirectory(prefix="velum-bench-") as directory:
            for name, command in _peers(guest, directory):
                _from_process_start(results, name, command)
        _from_request(results, "bzImage", {"kernel": str(guest.kernel), **payload}, _USERSPACE)
        _from_request(results, "vmlinux", {"kernel": str(guest.vmlinux), **payload}, _USERSPACE)
