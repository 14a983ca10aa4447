# SPDX-License-Identifier: Apache-2.0
"""A guest's serial console as a test reads and types it."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from pathlib import Path
from typing import Self

__all__ = ["Console", "ConsoleTimeoutError"]


class ConsoleTimeoutError(AssertionError):
    """What was expected on a console did not come."""


class Console:
    """One end of a byte stream, with all that came out of it.

    Args:
        fd: Readable, and writable for :meth:`send`; the console closes it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0
        self.output = bytearray()
        """Everything read so far."""
        self.hung_up = False
        """Whether the other end was closed."""

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Return a console and the other end, which is the caller's to close."""
        ours, theirs = socket.socketpair()
        return cls(ours.detach()), theirs

    @classmethod
    def connect(cls, path: Path) -> Self:
        """Return a client of a UNIX socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20.0)
            client.connect(str(path))
            client.settimeout(None)
            return cls(client.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def send(self, data: bytes) -> None:
        """Type all of the data."""
        while data:
            data = data[os.write(self._fd, data) :]

    def read(self, timeout: float = 0.0) -> bytes:
        """Wait for output and return what there is; nothing after the timeout or a hang-up."""
        if self.hung_up or not select.select([self._fd], [], [], timeout)[0]:
            return b""
        try:
            data = os.read(self._fd, 65536)
        except (ConnectionResetError, OSError):  # a pty's hang-up is EIO
            data = b""
        self.hung_up = not data
        self.output += data
        return data

    def expect(self, pattern: bytes | re.Pattern[bytes], timeout: float = 60.0) -> re.Match[bytes]:
        """Wait until the pattern matches what no earlier call has consumed.

        Args:
            pattern: Literal bytes, or a compiled pattern.
            timeout: Seconds.

        Raises:
            ConsoleTimeoutError: It did not; with the end of what there was.
        """
        compiled = re.compile(re.escape(pattern)) if isinstance(pattern, bytes) else pattern
        deadline = time.monotonic() + timeout
        while True:
            match = compiled.search(self.output, self._position)
            if match is not None:
                self._position = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0 or self.hung_up:
                why = "the console was closed" if self.hung_up else f"not in {timeout} s"
                tail = bytes(self.output[-2000:]).decode(errors="replace")
                raise ConsoleTimeoutError(f"{compiled.pattern!r}: {why}; the console has:\n{tail}")
            self.read(left)
