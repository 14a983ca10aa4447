# SPDX-License-Identifier: Apache-2.0
"""A terminal as a shell gives it to the worker."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.console import Console
from tests.support.guests import build
from tests.support.processes import Worker, start_worker

__all__ = ["Terminal", "on_terminal", "set_window"]


def set_window(fd: int, columns: int, rows: int) -> None:
    """Set the size of a terminal's window."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    """A pseudo-terminal with modes of its own; the worker gets the client's end."""

    def __init__(self) -> None:
        self.main, self.client = pty.openpty()
        modes = termios.tcgetattr(self.client)
        modes[6][termios.VERASE] = b"\x08"
        termios.tcsetattr(self.client, termios.TCSANOW, modes)
        self.modes = termios.tcgetattr(self.client)
        self.console = Console(self.main)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.close()
        os.close(self.client)

    def raw(self) -> bool:
        """Tell whether what is typed is neither echoed nor edited."""
        return not termios.tcgetattr(self.client)[3] & (termios.ICANON | termios.ECHO)


def on_terminal(
    runtime_dir: Path,
    terminal: Terminal,
    guest: str,
    *arguments: str,
    start: Callable[..., Worker] = start_worker,
) -> Worker:
    """Start a worker on the terminal, whose VM of a tiny guest is booted at once."""
    return start(
        runtime_dir,
        *("--kernel", build(guest), "--memory", "size=16M", *arguments),
        stdin=terminal.client,
        stdout=terminal.client,
        ready=False,
    )
