# SPDX-License-Identifier: Apache-2.0
"""What the demonstrations share: both processes, curl, a guest's console, a table of times."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ipc_protocol.names import ipc_path
from tests.testbed import host
from tests.testbed.jobs import guest_files, run_job

__all__ = ["BOOT_LIMIT", "Demonstration", "StepError", "expect", "main", "say"]

START_LIMIT = 120.0
STEP_LIMIT = 60.0
BOOT_LIMIT = 240.0
TESTBED_LIMIT = 900.0
POLL = 0.02


class StepError(Exception):
    """A step did not do what it should."""


class Service:
    """One of the two processes."""

    def __init__(self, directory: Path, *command: str) -> None:
        self.name = command[0]
        self.log = directory / f"{self.name}.log"
        say(f"$ {shlex.join(command)} &")
        program = Path(sys.executable).with_name(self.name)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self) -> None:
        """Raise unless the process runs."""
        status = self.process.poll()
        if status is not None:
            raise StepError(f"{self.name} ended with status {status}")

    def wait(self) -> None:
        """Raise unless the process ends by itself, and well."""
        try:
            status = self.process.wait(STEP_LIMIT)
        except subprocess.TimeoutExpired as ex:
            raise StepError(f"{self.name} does not end") from ex
        if status:
            raise StepError(f"{self.name} ended with status {status}")


class Demonstration(ABC):
    """The steps, and what they took.

    Args:
        directory: For sockets, logs and the console.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "api.sock"
        self.console = directory / "console"
        self.times: list[tuple[str, float]] = []

    def run(self) -> None:
        """Go through all of the steps."""
        started = time.monotonic()
        at = ("--runtime-dir", str(self.directory))
        with serving(Service(self.directory, "velum-vmm", *at)) as worker:
            api_command = ("velum-api", *at, "--socket", str(self.socket))
            with serving(Service(self.directory, *api_command)) as api:
                self.services = (worker, api)
                self.await_sockets()
                self.curl("vmm.ping")
                self.note("start of both processes to the first answer", started)
                self.operate()
                worker.wait()
                api.check()

    @abstractmethod
    def operate(self) -> None:
        """Take the virtual machine through its life; ends with vmm.shutdown."""

    def await_sockets(self) -> None:
        """Wait until both processes listen."""
        deadline = time.monotonic() + START_LIMIT
        for socket in (ipc_path(self.directory, "default"), self.socket):
            while not socket.exists():
                self.pause_until(deadline, f"nobody listens on {socket}")

    def console_lines(self, deadline: float, *, prompt: str | None = None) -> Iterator[str]:
        """Yield the lines of the console as they come, up to and with the prompt."""
        pending = b""
        with self.opened_console(deadline) as console:
            while True:
                *complete, pending = (pending + console.read()).split(b"\n")
                yield from (line.decode(errors="replace").rstrip("\r") for line in complete)
                if prompt is not None and prompt.encode() in pending:
                    yield pending.decode(errors="replace")
                    return
                if not complete:
                    self.pause_until(deadline, "the guest does not come up")

    def opened_console(self, deadline: float) -> IO[bytes]:
        """Open the file that the worker writes the console to."""
        while True:
            try:
                return self.console.open("rb")
            except FileNotFoundError:
                self.pause_until(deadline, "no console appeared")

    def pause_until(self, deadline: float, failure: str) -> None:
        """Wait a moment, or fail: with the deadline, or with a process that ended."""
        for service in self.services:
            service.check()
        if time.monotonic() > deadline:
            raise StepError(failure)
        time.sleep(POLL)

    def curl(
        self, operation: str, *, body: dict[str, Any] | None = None, shown: bool = True
    ) -> Any:
        """Run a curl command and return the answer's document, if it has one.

        Args:
            operation: What is asked for.
            body: Sent as JSON.
            shown: Whether to print the command and its answer.
        """
        tell = say if shown else lambda _: None
        reads = operation in {"vmm.ping", "vm.info", "vm.counters"}
        command = ["curl", "--unix-socket", str(self.socket)]
        command += [] if reads else ["-X", "PUT"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        command.append(f"http://localhost/api/v1/{operation}")
        tell(f"\n$ {shlex.join(command)}")
        quiet = ["--silent", "--show-error", "--max-time", f"{STEP_LIMIT:.0f}"]
        report = ["--write-out", r"\n%{http_code} %{time_total}"]
        done = subprocess.run(
            [*command, *quiet, *report], stdout=subprocess.PIPE, text=True, check=False
        )
        answer, _, summary = done.stdout.rpartition("\n")
        status, seconds = summary.split()
        if answer:
            tell(answer)
        tell(f"HTTP {status}, {float(seconds) * 1000:.1f} ms")
        if done.returncode or not status.startswith("2"):
            raise StepError(f"{operation} failed: HTTP {status}")
        if shown:
            self.times.append((operation, float(seconds)))
        return json.loads(answer) if answer else None

    def shell(self, name: str, *command: str) -> str:
        """Print a command and its output, and return that; fail unless it succeeds."""
        say(f"\n$ {shlex.join(command)}")
        started = time.monotonic()
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_LIMIT,
            check=False,
        )
        for line in done.stdout.splitlines():
            say(f"| {line}")
        expect(f"the status of {command[0]}", done.returncode, 0)
        self.note(name, started)
        return done.stdout

    def note(self, name: str, started: float) -> None:
        """Remember how long something took."""
        self.times.append((name, time.monotonic() - started))

    def table(self) -> None:
        """Print what everything took."""
        width = max(len(name) for name, _ in self.times)
        say("\nseconds")
        for name, seconds in self.times:
            say(f"  {name:{width}} {seconds:9.4f}")

    def show_logs(self) -> None:
        """Print what the two processes had to say."""
        for log in sorted(self.directory.glob("*.log")):
            say(f"--- {log.name}:\n{log.read_text(errors='replace')}---")


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    """End the process with the context: in order, and if that fails by force."""
    try:
        yield service
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
        service.wait()
    finally:
        service.process.kill()
        service.process.wait()


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def expect(what: str, found: object, wanted: object) -> None:
    """Raise unless something is as it should be."""
    if found != wanted:
        raise StepError(f"{what} is {found!r}, not {wanted!r}")


def main(
    demonstration: type[Demonstration],
    command: Sequence[str],
    *,
    able: bool,
    environment: Mapping[str, str],
) -> int:
    """Run a demonstration here, or in the testbed where this machine is not able to.

    Args:
        demonstration: Its steps.
        command: What runs it in the testbed.
        able: Whether this machine is.
        environment: More for the testbed's.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not host.inside_testbed():
        say(f"demo: {host.place()}")
        if not able:
            return run_job(command, environment=environment, time_limit=TESTBED_LIMIT).status
        os.environ.update(guest_files())
    with tempfile.TemporaryDirectory(prefix="velum-demo-") as directory:
        demo = demonstration(Path(directory))
        try:
            demo.run()
        except StepError as ex:
            demo.show_logs()
            say(f"demo: FAILED: {ex}")
            return 1
        demo.table()
    say("demo: every step succeeded")
    return 0
