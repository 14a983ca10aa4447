# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a guest over one of its terminals: no network, no login.

The guest's side is ``tests/guests/agent/agent``; any VMM will do that shows the terminal as a
UNIX socket::

    with Agent.connect(tmp_path / "console.sock") as agent:
        agent.wait()
        assert agent.check("uname -s") == "Linux"
"""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support.console import Console

__all__ = ["READY", "Agent"]

READY = b"VELUM-AGENT-READY"
_BOOT_TIMEOUT = 400.0
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


class Agent:
    """The host's end of the terminal.

    Args:
        console: A byte stream to and from it; closed with the agent.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._number = 0

    @classmethod
    def connect(cls, path: Path, timeout: float = 120.0) -> Self:
        """Connect to the VMM's socket as soon as it is there."""
        deadline = time.monotonic() + timeout
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.02)
            else:
                return cls(Console(connection.detach()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.close()

    def wait(self, timeout: float = _BOOT_TIMEOUT) -> None:
        """Wait until the guest has booted."""
        self.console.expect(READY, timeout)

    def start(self, command: str) -> int:
        """Send a line for ``/bin/sh`` and return its number for :meth:`finish`."""
        assert "\n" not in command, "it would be several commands"
        self._number += 1
        self.console.send(f"{self._number} {command}\n".encode())
        return self._number

    def finish(self, number: int, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a command; its errors stand in its output."""
        marks = rb"VELUM-AGENT-BEGIN %d\r?\n(.*?)VELUM-AGENT-END %d (\d+)\r?\n" % (number, number)
        match = self.console.expect(re.compile(marks, re.DOTALL), timeout)
        lines = [line.strip() for line in match[1].splitlines()]
        output = base64.b64decode(b"".join(line for line in lines if _LINE.fullmatch(line)))
        return subprocess.CompletedProcess(
            f"command {number}", int(match[2]), output.decode(errors="replace").strip()
        )

    def run(self, command: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Run a command and return its status and output."""
        return self.finish(self.start(command), timeout)

    def check(self, command: str, timeout: float = 240.0) -> str:
        """Return the output of a command that is to succeed.

        Raises:
            AssertionError: It did not.
        """
        done = self.run(command, timeout)
        assert done.returncode == 0, f"{command}: status {done.returncode}: {done.stdout}"
        return done.stdout
