# SPDX-License-Identifier: Apache-2.0
"""The processes that are measured, and what they occupy."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ipc_protocol.names import ipc_path
from tests.integration.performance.measure import wait_until
from tests.support.http import UnixHTTP, wait_for_socket

__all__ = [
    "ROOT",
    "Service",
    "cpu_seconds",
    "descendants",
    "pss_kib",
    "python_environment",
    "running",
    "service",
    "thread_seconds",
]

ROOT = Path(__file__).parents[3]
_MAPPING = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<access>\S{4}) ")
_GUEST_RAM = 256 << 20
"""Nothing but the RAM of a guest with half a GiB of it is mapped in pieces of this size."""
_OK = 200
_NAME = "bench"
"""Of the VM."""


class Service(NamedTuple):
    """A worker and the API in front of it."""

    socket: Path
    """The API's."""
    ipc: Path
    """The worker's."""
    worker: subprocess.Popen[bytes]
    api: subprocess.Popen[bytes]

    def client(self) -> UnixHTTP:
        """Return a keep-alive connection to the API."""
        return UnixHTTP(str(self.socket))


def python_environment() -> dict[str, str]:
    """Return an environment in which the packages are found, installed or not."""
    packages = os.pathsep.join(str(ROOT / name) for name in ("services", "shared", "native"))
    return {**os.environ, "PYTHONPATH": packages}


@contextlib.contextmanager
def running(
    command: list[str], *, stdout: int = subprocess.DEVNULL, own_session: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for as long as the context lasts.

    Args:
        command: What to run.
        stdout: Where its output goes.
        own_session: Whether to have it in a session of its own, as a service is: the scheduler
            shares the processors out among sessions first.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        env=python_environment(),
        start_new_session=own_session,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """Run a worker and the API until the context ends."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="velum-bench-"))
        socket = Path(directory) / "api.sock"
        place = ["--runtime-dir", directory]
        worker = [sys.executable, "-m", "vmm_worker", "--name", _NAME, *place]
        api = [sys.executable, "-m", "api_server", "--socket", str(socket), *place]
        started = Service(
            socket,
            ipc_path(directory, _NAME),
            stack.enter_context(running([*worker, "--log-level", "warning"])),
            stack.enter_context(running([*api, "--default-vm", _NAME, "--log-level", "warning"])),
        )
        wait_for_socket(socket)
        with started.client() as client:
            wait_until(lambda: client.get("/api/v1/vmm.ping").status == _OK, "vmm.ping")
        yield started


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and its children."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from descendants(int(child))


def thread_seconds(pid: int) -> float:
    """Return the CPU time that the threads of a process have had, finer than in ticks."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have had, that of their guests included."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int, guest_ram: int = _GUEST_RAM) -> int:
    """Return the proportional set size of a process and its children, guest RAM aside.

    Args:
        pid: The process.
        guest_ram: Bytes of the smallest mapping that is guest RAM.
    """
    total = 0
    for process in descendants(pid):
        is_ram = False
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            if mapping := _MAPPING.match(line):
                size = int(mapping["end"], 16) - int(mapping["start"], 16)
                is_ram = mapping["access"].startswith("rw") and size >= guest_ram
            elif line.startswith("Pss:") and not is_ram:
                total += int(line.split()[1])
    return total
