# SPDX-License-Identifier: Apache-2.0
"""What the guest's serial port and its console are connected to on the host.

A terminal is opened when the VM is booted, stays open over reboots (so the path of a
pty and the client of a socket stay valid), and is closed when the VM stops.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import tty
from typing import Any, ClassVar, Final, Protocol

from ipc_protocol.config_devices import SerialMode
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.listener import SocketPath

__all__ = [
    "FileTerminal",
    "NullTerminal",
    "OwnTerminal",
    "Port",
    "PtyTerminal",
    "SocketTerminal",
    "Terminal",
    "TerminalConfig",
    "open_terminal",
]

_STDIN: Final = 0
_STDOUT: Final = 1


class TerminalConfig(Protocol):
    """The fields that the configurations of both have in common."""

    @property
    def mode(self) -> SerialMode:
        """Which kind of terminal."""

    @property
    def file(self) -> str | None:
        """The path of a file."""

    @property
    def socket(self) -> str | None:
        """The path to listen on."""


class Port(Protocol):
    """A device that can be connected to a terminal."""

    def attach(self, input: int, output: int) -> None:  # noqa: A002 - the field's own word
        """Connect in place of what was connected."""

    def detach(self) -> None:
        """Disconnect."""


class Terminal:
    """What a serial port or console is connected to; by itself, nothing."""

    input: int = -1
    """What the guest receives is read from here; -1 for nothing."""
    output: int = -1
    """What the guest sends is written here; -1 for nothing."""
    path: str | None = None
    """The path that ``vm.info`` shows as its file."""
    listener: int | None = None
    """Readable when a client waits for :meth:`accept`."""

    def connect(self, port: Port) -> None:
        """Connect a device to what there is now."""
        if self.input == self.output == -1:
            port.detach()
        else:
            port.attach(self.input, self.output)

    def window(self) -> tuple[int, int] | None:
        """Return the columns and rows of its window, if it has one that we can ask for."""
        return None

    def accept(self) -> bool:
        """Take a waiting client, and say whether the descriptors changed."""
        return False

    def hang_up(self) -> bool:
        """React to the peer's end, and say whether the descriptors changed."""
        return False

    def close(self) -> None:
        """Give everything back to the host as it was."""


class OwnTerminal(Terminal):
    """The worker's own stdin and stdout; a terminal is in raw mode meanwhile.

    Args:
        stdin: Whether input is read from there: what is typed goes to one device only.
    """

    _modes: ClassVar[list[Any] | None] = None
    """Those of the process's one terminal before it was in raw mode."""

    def __init__(self, *, stdin: bool) -> None:
        self.output = _STDOUT
        if not stdin:
            return
        self.input = _STDIN
        if os.isatty(_STDIN) and not _in_background(_STDIN):
            OwnTerminal._modes = termios.tcgetattr(_STDIN)
            tty.setraw(_STDIN, termios.TCSANOW)

    def window(self) -> tuple[int, int] | None:
        """Return the size of the terminal's window."""
        try:
            return os.get_terminal_size(_STDOUT)
        except OSError:
            return None  # A file, a pipe, a terminal whose window was closed.

    def close(self) -> None:
        """Restore the terminal."""
        if self.input == _STDIN:
            self.restore_modes()

    @classmethod
    def restore_modes(cls) -> None:
        """Give the terminal its modes back, if they were changed; from any thread."""
        modes, cls._modes = cls._modes, None
        if modes is not None:
            # The terminal may be gone (its window was closed); then nothing is to restore.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(_STDIN, termios.TCSANOW, modes)


class FileTerminal(Terminal):
    """A file, written from its start."""

    def __init__(self, path: str) -> None:
        # O_NONBLOCK: a FIFO without a reader is an error, not a wait without end.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self.output = os.open(path, flags | os.O_CLOEXEC, 0o640)
        except OSError as ex:
            raise VmFailure(
                ErrorCode.FILE_UNAVAILABLE,
                f"the file {path} cannot be opened",
                causes=(_reason(ex),),
            ) from ex

    def close(self) -> None:
        """Close the file."""
        if self.output != -1:
            os.close(self.output)
            self.output = -1


class PtyTerminal(Terminal):
    """A new pseudo-terminal; clients open its path."""

    def __init__(self) -> None:
        try:
            main, client_end = os.openpty()
        except OSError as ex:
            raise VmFailure(
                ErrorCode.HOST_RESOURCE,
                "a pseudo-terminal cannot be opened",
                causes=(_reason(ex),),
            ) from ex
        tty.setraw(client_end, termios.TCSANOW)
        self.path = os.ttyname(client_end)
        # Only clients hold it open, so that the device can tell whether there is one.
        os.close(client_end)
        self.input = self.output = main

    def close(self) -> None:
        """Close our end; a client's reads and writes fail from now on."""
        if self.output != -1:
            os.close(self.output)
            self.input = self.output = -1


class SocketTerminal(Terminal):
    """A UNIX socket with one client at a time: a new one takes the place of the old."""

    def __init__(self, path: str) -> None:
        self._place = SocketPath(path)
        self._socket = socket.socket(fileno=self._place.detach())
        self._client: socket.socket | None = None
        self.listener = self._socket.fileno()

    def accept(self) -> bool:
        """Connect the waiting client in place of the present one."""
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        client.settimeout(0.0)
        self._drop_client()
        self._client = client
        self.input = self.output = client.fileno()
        return True

    def hang_up(self) -> bool:
        """Forget the client that left, unless another already took its place."""
        if self._client is None:
            return False
        poll = select.poll()
        poll.register(self._client, 0)  # Only a hang-up in both directions, or an error.
        if not poll.poll(0):
            return False
        self._drop_client()
        return True

    def close(self) -> None:
        """Disconnect the client and remove the socket."""
        self._drop_client()
        self.listener = None
        self._socket.close()
        self._place.close()

    def _drop_client(self) -> None:
        self.input = self.output = -1
        if self._client is None:
            return
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()
        self._client = None


class NullTerminal(Terminal):
    """Takes everything, gives nothing."""

    def __init__(self) -> None:
        self.output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the null device."""
        if self.output != -1:
            os.close(self.output)
            self.output = -1


def open_terminal(pointer: str, config: TerminalConfig, *, stdin: bool = True) -> Terminal:
    """Open what the configuration names.

    Args:
        pointer: Where in the request the configuration is: "/serial".
        config: The configuration of a serial port or console.
        stdin: Whether it may read the worker's stdin.

    Raises:
        VmFailure: ``file_unavailable`` or ``host_resource`` when it cannot be had.
    """
    field = f"{pointer}/mode"
    try:
        match config.mode:
            case SerialMode.TTY:
                return OwnTerminal(stdin=stdin)
            case SerialMode.FILE:
                field = f"{pointer}/file"
                return FileTerminal(config.file or "")
            case SerialMode.PTY:
                return PtyTerminal()
            case SerialMode.SOCKET:
                field = f"{pointer}/socket"
                return SocketTerminal(config.socket or "")
            case SerialMode.NULL:
                return NullTerminal()
            case SerialMode.OFF:
                return Terminal()
    except VmFailure as ex:
        raise ex.at(field) from ex


def _in_background(terminal: int) -> bool:
    """Tell whether the shell's terminal belongs to another job now: its modes are not ours."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False  # No job control: it is not our controlling terminal.


def _reason(ex: OSError) -> str:
    return ex.strerror or str(ex)
