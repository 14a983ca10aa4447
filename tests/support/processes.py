# SPDX-License-Identifier: Apache-2.0
"""Velum's processes as a test starts, watches and ends them.

::

    with start_worker(tmp_path, "--kernel", build("hello")) as worker:
        worker.wait_for(state=VmState.RUNNING)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self, TypeVar

from ipc_protocol.client import Client
from ipc_protocol.errors import VmError, VmFailure
from ipc_protocol.messages import Operation, VmInfo
from ipc_protocol.names import ipc_path
from tests.testbed.host import inside_testbed

__all__ = [
    "DEADLINE",
    "Daemon",
    "Worker",
    "descriptors_of",
    "eventually",
    "make_file",
    "slow_memory",
    "start_worker",
    "vm_config",
]

DEADLINE = 120.0
"""Seconds for anything to happen that takes far less; what does not happen fails there."""

_T = TypeVar("_T")


def eventually(probe: Callable[[], _T | None], what: str, *, timeout: float = DEADLINE) -> _T:
    """Ask until the answer is true, for what can only be asked for.

    Raises:
        AssertionError: It was not within the time.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        time.sleep(0.01)


def vm_config(kernel: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Return the body of ``vm.create`` for a tiny guest, with other parts as they are given."""
    payload = {"kernel": os.fspath(kernel), **parts.pop("payload", {})}
    return {"payload": payload, "memory": {"size": 16 << 20}, **parts}


def slow_memory() -> dict[str, Any]:
    """Return a VM's memory that takes a boot a while: all of it is touched, page by page."""
    available = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    # On the testbed's emulated processor a quarter of it takes long enough.
    wanted = (128 if inside_testbed() else 512) << 20
    size = min(available // 2, wanted) & ~0xFFF
    return {"size": size, "prefault": True, "thp": False, "shared": True}


def make_file(path: Path, size: int) -> str:
    """Make a sparse file, and return its path as a configuration has it."""
    with path.open("wb") as file:
        file.truncate(size)
    return str(path)


def descriptors_of(pid: int) -> list[str]:
    """Return what the open descriptors of a process are, sorted."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            # Sockets and pipes are counted, not told apart.
            found.append(str(fd.readlink()).split(":[", 1)[0])
    return sorted(found)


class Daemon:
    """A process of ours with its log; as a context manager, ended at the latest there.

    Args:
        module: What ``python -m`` runs.
        arguments: Its command line.
        log: Where its stderr goes.
        environment: What is different in its environment.
        under: A command that runs it, and leaves it its process id.
        options: More for ``subprocess.Popen``.
    """

    def __init__(
        self,
        module: str,
        *arguments: object,
        log: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
        under: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.log = log
        path = os.pathsep.join(filter(None, sys.path))
        with log.open("wb") as stderr:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [*under, sys.executable, "-m", module, *map(str, arguments)],
                **{
                    "stdin": subprocess.DEVNULL,
                    "stdout": subprocess.DEVNULL,
                    "stderr": stderr,
                    "env": {**os.environ, "PYTHONPATH": path, **environment},
                    **options,
                },
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.stop()
        finally:
            if kind is not None:
                sys.stderr.write(f"--- {self.log}\n{self.read_log()}---\n")

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def read_log(self) -> str:
        """Return everything it has logged."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = DEADLINE) -> int:
        """Wait for its end and return the exit status; it is killed when it does not end."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"process {self.pid} did not end; {self.read_log()}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = DEADLINE) -> int:
        """Send a signal, unless it has ended, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.wait(timeout)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return status

    def descriptors(self) -> list[str]:
        """Return what its open descriptors are, sorted."""
        return descriptors_of(self.pid)

    def threads(self) -> list[str]:
        """Return the names of its threads, sorted."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append((task / "comm").read_text().strip())
        return sorted(found)


class Worker(Daemon):
    """A ``velum-vmm`` and a client of it."""

    def __init__(self, ipc: Path, *arguments: object, log: Path, **options: Any) -> None:
        super().__init__("vmm_worker", *arguments, log=log, **options)
        self.ipc = ipc
        self.client = Client(ipc)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.client.close()

    def call(self, operation: str, body: object = None, timeout: float | None = None) -> Any:
        """Perform an operation."""
        return self.client.call(Operation(operation), body, timeout=timeout)

    def error(self, operation: str, body: object = None) -> VmError:
        """Perform an operation that is to fail, and return the error."""
        try:
            value = self.call(operation, body)
        except VmFailure as ex:
            return ex.error
        raise AssertionError(f"{operation} did not fail; it returned {value!r}")

    def info(self) -> VmInfo:
        """Return ``vm.info``."""
        info = self.call("vm.info")
        assert isinstance(info, VmInfo)
        return info

    def wait_until_ready(self) -> None:
        """Wait until it answers; fails with its log if it ends instead."""

        def answers() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended: {self.read_log()}")
            try:
                self.call("vmm.ping")
            except VmFailure:
                return False
            return True

        eventually(answers, "the worker answers")

    def wait_until(self, condition: Callable[[VmInfo], bool], what: str) -> VmInfo:
        """Wait until ``vm.info`` meets the condition, and return it."""

        def met() -> VmInfo | None:
            try:
                info = self.info()
            except VmFailure:
                return None  # There is no VM yet.
            return info if condition(info) else None

        return eventually(met, what)

    def wait_for(self, **expected: object) -> VmInfo:
        """Wait until these fields of ``vm.info`` have these values, and return it."""
        return self.wait_until(
            lambda info: all(getattr(info, name) == value for name, value in expected.items()),
            f"vm.info shows {expected}",
        )


def start_worker(
    runtime_dir: Path,
    *arguments: object,
    name: str = "default",
    ready: bool = True,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    **more: Any,
) -> Worker:
    """Start ``velum-vmm`` for the VM of that name.

    Args:
        runtime_dir: Where it listens and where its log is.
        arguments: More of its command line.
        name: The VM's name.
        ready: Whether to wait until it answers.
        stdin: Its stdin, if not the null device.
        stdout: Its stdout, if not the null device.
        more: For :class:`Daemon`.
    """
    options = more
    if stdin is not None:
        options["stdin"] = stdin
    if stdout is not None:
        options["stdout"] = stdout
    ipc = ipc_path(runtime_dir, name)
    # A guest without ACPI cannot hear the power button: no test waits for it by default.
    command = ("--name", name, "--runtime-dir", runtime_dir, "--shutdown-timeout", 0, *arguments)
    log = runtime_dir / f"{name}.log"
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(Worker(ipc, *command, log=log, **options))
        if ready:
            worker.wait_until_ready()
        stack.pop_all()
    return worker
