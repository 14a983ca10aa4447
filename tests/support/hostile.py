# SPDX-License-Identifier: Apache-2.0
"""Clients that do not behave, on bare sockets, and what their server costs meanwhile."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.api import ApiProcess
from tests.support.processes import DEADLINE, eventually

__all__ = ["Usage", "connect", "head", "listening", "read_to_end", "serving", "status"]


def connect(server: ApiProcess) -> socket.socket:
    """Return a connection to the server that gives up when nothing happens."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.connect(str(server.socket))  # waits for its turn only while there is no timeout
    except BaseException:
        client.close()
        raise
    client.settimeout(DEADLINE)
    return client


@contextlib.contextmanager
def listening(server: ApiProcess, count: int) -> Iterator[list[socket.socket]]:
    """Lend that many connections, none of which sends anything."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server)) for _ in range(count)]


def head(method: str = "GET", target: str = "/api/v1/vmm.ping", **fields: object) -> bytes:
    """Return the head of a request; ``content_length=5`` is a field of it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def read_to_end(client: socket.socket) -> bytes:
    """Return all that comes until the server closes, or resets what is too much for it."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            answer += part
    return answer


def status(client: socket.socket) -> int:
    """Return the status of the one answer that comes."""
    answer = b""
    while (line := re.match(rb"HTTP/1\.1 (\d+) [^\n]*\n", answer)) is None:
        part = client.recv(1 << 16)
        assert part, f"no answer but {answer!r}"
        answer += part
    return int(line[1])


def serving(master: int) -> int:
    """Return the process id of the child that serves, given that of the process first started."""
    path = Path(f"/proc/{master}/task/{master}/children")
    return eventually(lambda: int((path.read_text().split() or ["0"])[0]), "a process serves")


class Usage(NamedTuple):
    """What a process has."""

    memory: int
    """Bytes of its own, not of files."""
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Look at a process."""
        process = Path(f"/proc/{pid}")
        lines = (process / "status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return cls(
            memory=int(fields["RssAnon"].split()[0]) << 10,
            descriptors=sum(1 for _ in (process / "fd").iterdir()),
            threads=int(fields["Threads"]),
        )

    @classmethod
    def of_server(cls, server: ApiProcess) -> Self:
        """Look at the process that serves."""
        return cls.of(serving(server.pid))

    def growth_since(self, before: Usage) -> Usage:
        """Return what it has more than before."""
        return Usage(*(new - old for old, new in zip(before, self, strict=True)))
