# SPDX-License-Identifier: Apache-2.0
"""A service manager as a service sees it: sockets that it keeps, and what it is told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.processes import eventually

__all__ = ["Notifications", "listening"]


class Notifications:
    """What a service tells its manager (sd_notify(3)).

    Args:
        path: The address that the service is given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._fields: list[tuple[str, str]] = []

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def environment(self, **more: object) -> dict[str, str]:
        """Return what the service is to find in its environment."""
        return {"NOTIFY_SOCKET": str(self.path), **{key: str(more[key]) for key in more}}

    def values(self, name: str) -> list[str]:
        """Return every value that was told of a field so far, oldest first."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(1 << 16).decode().splitlines():
                    key, _, value = line.partition("=")
                    self._fields.append((key, value))
        return [value for key, value in self._fields if key == name]

    def wait_for(self, name: str, text: str = "", *, beyond: int = 0) -> str:
        """Wait until a field is told with this in its value, and return that.

        Args:
            name: The field.
            text: What it has to contain.
            beyond: How many values of the field do not count, from the first.
        """

        def told() -> str | None:
            return next((v for v in self.values(name)[beyond:] if text in v), None)

        return eventually(told, f"the manager is told {name}=...{text}...")


@contextlib.contextmanager
def listening(paths: Mapping[str, Path]) -> Iterator[dict[str, socket.socket]]:
    """Open sockets as socket units do, by the name that each is passed under."""
    with contextlib.ExitStack() as stack:
        opened = {}
        for name, path in paths.items():
            one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            one.bind(str(path))
            one.listen(512)
            opened[name] = one
        yield opened
