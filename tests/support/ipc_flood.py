# SPDX-License-Identifier: Apache-2.0
"""Peers of a worker that mean it no good: ``python -m tests.support.ipc_flood KIND PATH``.

Each goes on until it is killed, and connects again whenever it is disconnected.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import msgpack
import zmq

from ipc_protocol.codec import MAX_MESSAGE
from ipc_protocol.version import PROTOCOL_VERSION

__all__ = ["KINDS", "MANY"]

MANY: Final = 3000
"""Connections that one of them tries to have at a time."""


def _dealer(path: str) -> zmq.Socket[bytes]:
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.linger = 0
    dealer.sndhwm = 4
    dealer.connect(f"ipc://{path}")
    return dealer


def _say(path: str, *frames: bytes) -> NoReturn:
    dealer = _dealer(path)
    while True:
        dealer.send_multipart(frames)


def _nonsense(path: str) -> NoReturn:
    _say(path, b"\xc1 nonsense")


def _costly(path: str) -> NoReturn:
    """Send what looks like a request, and takes long to find wrong."""
    body = [{} for _ in range(60_000)]
    request = {"v": PROTOCOL_VERSION, "id": b"0" * 16, "op": "vm.create", "context": {}}
    _say(path, msgpack.packb({**request, "deadline": 1 << 62, "body": {"disks": body}, "x": 1}))


def _frames(path: str) -> NoReturn:
    _say(path, *[b""] * 5000)


def _oversized(path: str) -> NoReturn:
    _say(path, bytes(MAX_MESSAGE + 1))


def _foreign(path: str) -> NoReturn:
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100))
            while connection.recv(4096):
                pass


def _connections(path: str) -> NoReturn:
    """Have as many connections as there can be, and say nothing on any."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: deque[socket.socket] = deque()
    while True:
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            connection.connect(path)
        held.append(connection)
        if len(held) > MANY:
            held.popleft().close()


KINDS: Final[dict[str, Callable[[str], NoReturn]]] = {
    "nonsense": _nonsense,
    "costly": _costly,
    "frames": _frames,
    "oversized": _oversized,
    "foreign": _foreign,
    "connections": _connections,
}
"""What each does, by name."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    KINDS[sys.argv[1]](sys.argv[2])
