# SPDX-License-Identifier: Apache-2.0
"""Velum as it is installed: its units, what they log, and the API as a client sees it.

::

    vm = UnitVm("web-1", guest="count")
    vm.start()
    vm.wait_for("Running")
    assert vm.journal.wait_for("ready")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.support import guests
from tests.support.http import Response, UnixHTTP
from tests.support.processes import eventually

__all__ = [
    "API",
    "CONFIGS",
    "DISKS",
    "IMAGES",
    "LIMIT",
    "SOCKET",
    "Client",
    "Journal",
    "UnitVm",
    "drop_in",
    "installed_guest",
    "main_pid",
    "output",
    "processes",
    "show",
    "systemctl",
    "undisturbed",
]

API: Final = "velum-api.service"
SOCKET: Final = Path("/run/velum/api.sock")
CONFIGS: Final = Path("/etc/velum/vms")
IMAGES: Final = Path("/var/lib/velum/images")
DISKS: Final = Path("/var/lib/velum")
LIMIT: Final = 300.0
"""Seconds for anything to happen; an emulated processor that others use as well needs many."""

_RUNTIME_UNITS: Final = Path("/run/systemd/system")
_MODULES: Final = "/usr/lib/velum/"


def output(*command: str | Path, check: bool = True) -> str:
    """Run a command and return what it says, standard error included."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0 or not check, f"{command}: {done.returncode}: {done.stdout}"
    return done.stdout


def systemctl(*words: str, check: bool = True) -> str:
    """Run systemctl."""
    return output("systemctl", "--no-pager", *words, check=check)


def show(unit: str, name: str) -> str:
    """Return a property of a unit."""
    return systemctl("show", "--value", "-p", name, unit).strip()


def main_pid(unit: str) -> int:
    """Return the process of a service; 0 while there is none."""
    return int(show(unit, "MainPID"))


def drop_in(unit: str, name: str, text: str | None) -> None:
    """Add to a unit until the next boot; without a text, take it back."""
    path = _RUNTIME_UNITS / f"{unit}.d" / f"{name}.conf"
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    systemctl("daemon-reload")


def processes() -> list[str]:
    """Return the command lines of all processes that run what the package installed."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if _MODULES in (folder / "maps").read_text():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Journal:
    """What a unit logs, and systemd about it, from a moment on."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        # An entry of nobody's to begin at: --after-cursor would leave out the unit's own first.
        output("systemd-cat", "--identifier=velum-test", "echo", f"here begins a test's {unit}")
        output("journalctl", "--sync")
        shown = output("journalctl", "--lines=0", "--show-cursor", "--identifier=velum-test")
        self._cursor = shown.partition("cursor: ")[2].strip()

    def text(self) -> str:
        """Return all that is there."""
        output("journalctl", "--sync")
        begin = f"--cursor={self._cursor}"
        return output("journalctl", "--quiet", "--output=cat", begin, f"--unit={self.unit}")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the pattern is found."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text())

        try:
            return eventually(found, f"{self.unit} logs {pattern!r}", timeout=LIMIT)
        except AssertionError as ex:
            raise AssertionError(f"{ex}; it logged {self.text()}") from None


@dataclass
class UnitVm:
    """One VM of this host: its unit, its file, and what it does.

    Args:
        name: The VM's.
        guest: The tiny guest that it boots; without one, nothing is booted.
        cmdline: Of the guest.
        memory: MiB of RAM.
        host: What systemd and the worker do for it.
        parts: More of the ``VmConfig``.
    """

    name: str
    guest: str | None = None
    cmdline: str = ""
    memory: int = 16
    host: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.unit = f"velum-vmm@{self.name}.service"
        self.file = CONFIGS / f"{self.name}.json"
        self.folder = DISKS / self.name
        self.serial = self.folder / "serial"
        self.journal = Journal(self.unit)
        if self.guest is not None:
            config = self.config()
            if self.host:
                config["host"] = self.host
            self.file.write_text(json.dumps(config, indent=2))

    def config(self) -> dict[str, Any]:
        """Return the ``VmConfig``, whose guest's output goes to the file `serial`."""
        assert self.guest is not None
        payload = {"kernel": str(installed_guest(self.guest))}
        return {
            "payload": payload | ({"cmdline": self.cmdline} if self.cmdline else {}),
            "memory": {"size": self.memory << 20},
            "serial": {"mode": "File", "file": str(self.serial)},
            **self.parts,
        }

    def remove(self) -> None:
        """Stop it and take away all that is there of it."""
        self.switch_off()
        for verb in ("stop", "reset-failed"):
            systemctl(verb, self.unit, check=False)
        self.file.unlink(missing_ok=True)
        self.folder.unlink(missing_ok=True)
        shutil.rmtree(DISKS.with_name("private") / "velum" / self.name, ignore_errors=True)

    def switch_off(self) -> None:
        """Take the guest from its worker, which would give it time to power itself off."""
        with contextlib.suppress(OSError, http.client.HTTPException):  # There may be no API.
            self.request("PUT", "vm.delete")

    def start(self) -> None:
        """Start the unit; it is ready when this returns."""
        systemctl("start", self.unit)

    def start_in_vain(self) -> None:
        """Start the unit, which is not to succeed."""
        done = systemctl("start", self.unit, check=False)
        assert "failed" in done, f"it came up: {done}"

    def running(self) -> Self:
        """Start the unit, and wait until its guest is at work."""
        self.start()
        self.wait_for("Running")
        self.expect_at_work()
        return self

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return main_pid(self.unit)

    def request(self, method: str, operation: str, body: Any = None) -> Response:
        """Send one request on a connection of its own."""
        with UnixHTTP(SOCKET, host=self.name, timeout=LIMIT) as api:
            return api.request(method, f"/api/v1/{operation}", body)

    def info(self) -> Response:
        """Return the answer to ``vm.info``."""
        return self.request("GET", "vm.info")

    def wait_for(self, state: str) -> dict[str, Any]:
        """Wait until ``vm.info`` is answered with the state, and return it."""

        def reached() -> dict[str, Any] | None:
            answer = self.info()
            found: dict[str, Any] = answer.json
            return found if answer.status == 200 and found["state"] == state else None

        try:
            return eventually(reached, f"{self.name} is {state}", timeout=LIMIT)
        except AssertionError as ex:
            raise AssertionError(f"{ex}; {self.info()}; {self.journal.text()}") from None

    def wait_for_end(self) -> None:
        """Wait until the unit is down."""
        down = ("inactive", "failed")
        self.wait_until(lambda: show(self.unit, "ActiveState") in down, f"{self.name} is down")

    def expect_at_work(self) -> None:
        """Wait until the guest's output has become longer."""
        before = self.said()
        self.wait_until(lambda: len(self.said()) > len(before), f"{self.name} goes on")

    def said(self) -> str:
        """Return the guest's output since its boot."""
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a failure shows the journal."""
        try:
            eventually(condition, what, timeout=LIMIT)
        except AssertionError as ex:
            raise AssertionError(f"{ex}; {self.journal.text()}") from None


@contextlib.contextmanager
def undisturbed(*vms: UnitVm) -> Iterator[None]:
    """Expect the same workers and boots behind the context, and guests that go on."""
    before = [(vm.pid, vm.info().json["boots"]) for vm in vms]
    yield
    for vm in vms:
        vm.expect_at_work()
    assert [(vm.pid, vm.info().json["boots"]) for vm in vms] == before


def installed_guest(name: str) -> Path:
    """Put a tiny guest where workers may read it."""
    path = IMAGES / f"{name}.elf"
    if not path.exists():
        shutil.copyfile(guests.build(name), path)
        path.chmod(0o644)
    return path


class Client:
    """Somebody who asks the same thing again and again, as long as the context lasts.

    Args:
        vm: Whom.
        keep: Whether on one connection, for as long as the server keeps it.
    """

    def __init__(self, vm: str, *, keep: bool) -> None:
        self.answers: list[int] = []
        self.failures: list[str] = []
        self.retries = 0
        """How often its idle connection was closed, which a client may take for no failure."""
        self._keep = keep
        self._api = UnixHTTP(SOCKET, host=vm, timeout=LIMIT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client-{vm}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._api.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._ask()
            if not self._keep:
                self._api.close()

    def _ask(self) -> None:
        reused = self._api.connected
        try:
            status = self._api.get("/api/v1/vmm.ping").status
        except (OSError, http.client.HTTPException) as ex:
            self._api.close()
            if reused and isinstance(ex, http.client.RemoteDisconnected):
                self.retries += 1
            else:
                self.failures.append(repr(ex))
        else:
            self.answers.append(status)

    def expect_answers(self, more: int = 5) -> None:
        """Wait until it has had some more answers."""
        wanted = len(self.answers) + more
        eventually(lambda: len(self.answers) >= wanted, "answers", timeout=LIMIT)
