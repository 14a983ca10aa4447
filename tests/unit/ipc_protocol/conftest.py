# SPDX-License-Identifier: Apache-2.0
"""Workers made of nothing but a server and a thread."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import zmq
from hypothesis import settings

from ipc_protocol.client import Client
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.server import Incoming, Server

# The same examples in every run, and no verdict by the clock of a busy machine.
settings.register_profile("velum", derandomize=True, deadline=None)
settings.load_profile("velum")

Answer = Callable[[Server, Incoming], None]


def answer_ping(server: Server, incoming: Incoming) -> None:
    """Answer ``vmm.ping`` and nothing else, ever."""
    if incoming.operation is Operation.VMM_PING:
        server.reply(incoming, VmmPing("v0", "0", os.getpid(), ()))


class Worker:
    """A server with a thread that gives every request to a function."""

    def __init__(self, path: Path, answer: Answer = answer_ping) -> None:
        self.server = Server(path)
        self._answer = answer
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.server.socket, zmq.POLLIN)
        poller.register(self.server.connections.socket, zmq.POLLIN)
        poller.register(self._stopped, zmq.POLLIN)
        with self.server:
            while self._stopped.fileno() not in dict(poller.poll()):
                while (incoming := self.server.receive()) is not None:
                    self._answer(self.server, incoming)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.send(b"x")
        self._thread.join()
        self._stop.close()
        self._stopped.close()


@pytest.fixture(scope="session")
def worker_class() -> type[Worker]:
    """The class itself: a test module cannot import its conftest."""
    return Worker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A socket path that nobody listens at yet."""
    return tmp_path / "vm.ipc"


@pytest.fixture
def worker(path: Path) -> Iterator[Worker]:
    """A worker that answers pings."""
    with Worker(path) as worker:
        yield worker


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    """A client of the worker at ``path``."""
    with Client(path) as client:
        yield client
