# SPDX-License-Identifier: Apache-2.0
"""How many VMs fit, and how soon they are there: tiny guests, beside QEMU's microvm.

The guests have one vCPU, 16 MiB of RAM, a serial port and nothing to do.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from ipc_protocol.client import Client
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import Operation, VmState
from ipc_protocol.names import ipc_path
from tests.integration.performance.measure import Results, wait_until
from tests.integration.performance.processes import pss_kib, running, thread_seconds
from tests.support.guests import build

__all__ = [
    "CHECK_EVERY",
    "FEW",
    "MANY",
    "PSS_AIM",
    "RAM",
    "SOME",
    "START_AIM",
    "TIMEOUT",
    "ask",
    "measure",
]

START_AIM = 300
"""Milliseconds."""
PSS_AIM = 25
"""MiB."""
_MEMORY_MIB = 16
RAM = _MEMORY_MIB << 20
FEW = 4
"""VMs that bring in what all of them share."""
SOME = 20
MANY = 50
TIMEOUT = 300.0
CHECK_EVERY = 0.002


class _Peer(NamedTuple):
    """A monitor, and how it shows how far it is."""

    name: str
    command: Callable[[Path, str, bool], list[str]]
    """Folder, name, whether there is a guest -> command line."""
    answers: Callable[[Path, str], bool]
    runs: Callable[[Path, str], bool]


def _program() -> list[str]:
    """Return the worker as it is installed, or as it is here."""
    installed = shutil.which("velum-vmm", path="/usr/bin")
    return [sys.executable, "-m", "vmm_worker"] if installed is None else [installed]


def _velum(folder: Path, name: str, guest: bool) -> list[str]:
    command = [*_program(), "--name", name, "--runtime-dir", str(folder)]
    command += ["--log-level", "warning", "--shutdown-timeout", "0"]
    if guest:
        command += ["--kernel", str(build("button")), "--memory", f"size={_MEMORY_MIB}M"]
        command += ["--serial", f"file={folder}/{name}.serial", "--console", "off"]
    return command


def ask(folder: Path, name: str, operation: Operation) -> object:
    """Return what a worker answers, or ``None`` while it does not."""
    path = ipc_path(folder, name)
    if not path.exists():
        return None
    with Client(path) as client, contextlib.suppress(VmFailure):
        return client.call(operation)
    return None


def _velum_answers(folder: Path, name: str) -> bool:
    return ask(folder, name, Operation.VMM_PING) is not None


def _velum_runs(folder: Path, name: str) -> bool:
    return getattr(ask(folder, name, Operation.VM_INFO), "state", None) is VmState.RUNNING


def _qemu(folder: Path, name: str, guest: bool) -> list[str]:
    return [
        # The software KVM of a host without VMX and SVM has not the register of this feature.
        *("qemu-system-x86_64", "-M", "microvm", "-enable-kvm", "-cpu", "host,-arch-capabilities"),
        *("-m", str(_MEMORY_MIB), "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", f"file:{folder}/{name}.serial"),
        *("-qmp", f"unix:{folder}/{name}.qmp,server=on,wait=off"),
        *("-kernel", str(build("button")), *(() if guest else ("-S",))),
    ]


def _qmp(folder: Path, name: str, *commands: str) -> dict[str, object]:
    """Return the answer to the last command, or the greeting if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(f"{folder}/{name}.qmp")
        with connection.makefile("rw") as stream:
            answer: dict[str, object] = json.loads(stream.readline())
            for command in commands:
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
            return answer


def _qemu_answers(folder: Path, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return "return" in _qmp(folder, name, "qmp_capabilities")
    return False


def _qemu_runs(folder: Path, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        answer = _qmp(folder, name, "qmp_capabilities", "query-status")["return"]
        return isinstance(answer, dict) and answer["status"] == "running"
    return False


_PEERS = (
    _Peer("velum", _velum, _velum_answers, _velum_runs),
    _Peer("qemu microvm", _qemu, _qemu_answers, _qemu_runs),
)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="velum-density-") as folder:
        yield Path(folder)


def _start(results: Results, peer: _Peer) -> None:
    """Measure from the start of the process to its first answer."""
    with _folder() as folder:
        command = peer.command(folder, "a", False)
        started = time.monotonic()
        with running(command, own_session=True) as process:
            wait_until(lambda: peer.answers(folder, "a"), peer.name, interval=CHECK_EVERY)
            seconds = time.monotonic() - started
            busy = thread_seconds(process.pid) * 1e3
    aim = START_AIM if peer.name == "velum" else None
    results.add(f"process start to first answer, {peer.name}", "ms", seconds * 1e3, aim=aim)
    results.add(f"CPU time of that, {peer.name}", "ms", busy)


class _Crowd:
    """VMs of one monitor, more and more of them.

    Args:
        peer: The monitor.
    """

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(_folder())
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        self._stack.close()

    def grow(self, count: int) -> None:
        """Start what is missing at once, and wait until every guest has said its word."""
        names = [f"vm-{number}" for number in range(len(self.processes), count)]
        for name in names:
            command = self._peer.command(self._folder, name, True)
            process = self._stack.enter_context(running(command, own_session=True))
            self.processes.append(process)
        for name, process in zip(names, self.processes[-len(names) :], strict=True):
            self._wait_for_guest(name, process)
        missing = [name for name in names if not self._peer.runs(self._folder, name)]
        if missing:
            raise RuntimeError(f"{self._peer.name}: {missing} do not run")

    def pss_kib(self) -> int:
        """Return what all of them occupy, guest RAM aside."""
        return sum(pss_kib(process.pid, RAM) for process in self.processes)

    def _wait_for_guest(self, name: str, process: subprocess.Popen[bytes]) -> None:
        # It costs the monitors nothing to be asked for its word.
        output = self._folder / f"{name}.serial"

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the monitor of {name} ended with {process.returncode}")
            return output.exists() and b"ready" in output.read_bytes()

        wait_until(is_ready, f"the guest {name} is ready", timeout=TIMEOUT, interval=0.005)


def _memory(results: Results, peer: _Peer) -> None:
    """Measure what each VM more costs, once all that is shared is there."""
    with _Crowd(peer) as crowd:
        crowd.grow(FEW)
        few = crowd.pss_kib()
        crowd.grow(SOME)
        each = (crowd.pss_kib() - few) / (SOME - FEW) / 1024
    aim = PSS_AIM if peer.name == "velum" else None
    results.add(f"PSS of one VM more, beyond guest RAM, {peer.name}", "MiB", each, aim=aim)


def _many(results: Results, peer: _Peer) -> None:
    """Measure how soon many VMs run that are started at the same time."""
    with _Crowd(peer) as crowd:
        started = time.monotonic()
        crowd.grow(MANY)
        seconds = time.monotonic() - started
        busy = sum(thread_seconds(process.pid) for process in crowd.processes) / MANY
    results.add(f"{MANY} VMs at once, {peer.name}", "VMs/s", MANY / seconds)
    results.add(f"CPU time of each, {peer.name}", "ms", busy * 1e3)


def measure(results: Results, runs: int) -> None:
    """Measure both in turn; what takes fifty processes once for each five runs."""
    for run in range(runs):
        for peer in _PEERS:
            _start(results, peer)
            if not run % 5:
                _memory(results, peer)
                _many(results, peer)
