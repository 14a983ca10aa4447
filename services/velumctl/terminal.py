# SPDX-License-Identifier: Apache-2.0
"""The terminal velumctl runs on, handed to a guest and taken back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from enum import Enum
from typing import Final, NoReturn

__all__ = ["End", "attach", "handed_over"]

_STDIN: Final = 0
_STDOUT: Final = 1
_CHUNK: Final = 1 << 16
_WINDOW_BYTES: Final = 8
_OF_SIGNAL: Final = 128
"""What shells add to the number of the signal that ended a process."""


class End(Enum):
    """Why a session with a guest's console is over."""

    DETACHED = "detached"
    """The detach key was typed."""
    CLOSED = "closed"
    """The worker closed its side: the VM was switched off, or somebody else attached."""


@contextlib.contextmanager
def handed_over(peer: int) -> Iterator[None]:
    """Have every key go to the guest, and the guest know the size of our window.

    Args:
        peer: A descriptor of the console: a pseudo-terminal or a socket.
    """
    with _ending_in_order(), _raw(_STDIN), _following_window(peer):
        yield


def attach(peer: int, detach_key: bytes) -> End:
    """Connect stdin and stdout to the guest's console until either side ends it.

    Args:
        peer: As for :func:`handed_over`.
        detach_key: The byte that is never sent, and ends the session.
    """
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    poll.register(_STDIN, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == _STDIN:
                typed = os.read(_STDIN, _CHUNK)
                if not typed:
                    # A pipe's end: there is no one to type, and output may still come.
                    poll.unregister(_STDIN)
                before, found, _ = typed.partition(detach_key)
                if not _write(peer, before):
                    return End.CLOSED
                if found:
                    return End.DETACHED
            else:
                shown = _read(peer)
                if not shown:
                    return End.CLOSED
                _write(_STDOUT, shown)


def _read(peer: int) -> bytes:
    try:
        return os.read(peer, _CHUNK)
    except OSError as ex:
        # A pseudo-terminal's way to say that its other end is gone (tty_ioctl(4)).
        if ex.errno not in (errno.EIO, errno.ECONNRESET):
            raise
        return b""


def _write(fd: int, data: bytes) -> bool:
    """Write everything, and say whether there was anybody to take it."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as ex:
        if fd == _STDOUT or ex.errno not in (errno.EIO, errno.EPIPE, errno.ECONNRESET):
            raise
        return False
    return True


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Have a signal that ends the process leave the terminal as it was."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(_OF_SIGNAL + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Have a terminal neither edit nor echo what is typed, nor take Ctrl-C for itself."""
    if not os.isatty(fd):
        yield
        return
    modes = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)


@contextlib.contextmanager
def _following_window(peer: int) -> Iterator[None]:
    """Give a pseudo-terminal the size of our window, now and whenever it changes."""
    if not (os.isatty(peer) and os.isatty(_STDOUT)):
        yield
        return

    def copy_size(*_: object) -> None:
        size = fcntl.ioctl(_STDOUT, termios.TIOCGWINSZ, bytes(_WINDOW_BYTES))
        fcntl.ioctl(peer, termios.TIOCSWINSZ, size)

    copy_size()
    before = signal.signal(signal.SIGWINCH, copy_size)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
