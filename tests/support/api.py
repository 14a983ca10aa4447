# SPDX-License-Identifier: Apache-2.0
"""The API server as a process, and a peer that stands where a worker would."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import zmq

from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.names import vm_of
from ipc_protocol.server import Incoming, Server
from tests.support.contract import ContractHTTP
from tests.support.http import Response, UnixHTTP, wait_for_socket
from tests.support.processes import Daemon

__all__ = ["SILENCE", "ApiProcess", "Peer"]

SILENCE: Final = object()
"""What an answer of a :class:`Peer` returns to answer nothing."""

Answer = Callable[[Incoming], Any]


def _ping(incoming: Incoming) -> VmmPing:
    del incoming
    return VmmPing(build_version="v1", version="1", pid=os.getpid(), features=("test",))


class Peer:
    """An IPC server on a thread, answering as told: a value, a ``VmError`` or ``SILENCE``.

    Args:
        path: Where it listens.
        users: Who may ask beside the test's own user, by number.
    """

    def __init__(self, path: Path, *, users: Iterable[int] = ()) -> None:
        self.path = path
        self.answers: dict[Operation, Answer] = {Operation.VMM_PING: _ping}
        self.received: list[Incoming] = []
        path.parent.mkdir(exist_ok=True)
        self.server = Server(path, peers=users)
        self._stop_reading, self._stop_writing = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"peer-{vm_of(path)}")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away as a worker does that was told to."""
        os.close(self._stop_writing)
        self._thread.join()
        os.close(self._stop_reading)
        self.server.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.server.socket, zmq.POLLIN)
        poller.register(self.server.connections.socket, zmq.POLLIN)
        poller.register(self._stop_reading, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            while (incoming := self.server.receive()) is not None:
                self._answer(incoming)
            if self._stop_reading in ready:
                return

    def _answer(self, incoming: Incoming) -> None:
        self.received.append(incoming)
        answer = self.answers.get(incoming.operation)
        result = None if answer is None else answer(incoming)
        if isinstance(result, VmError):
            self.server.fail(incoming, result)
        elif result is not SILENCE:
            self.server.reply(incoming, result)

    def fail(self, operation: Operation, code: ErrorCode, **members: Any) -> None:
        """Have an operation fail from now on."""
        error = VmError(code=code, message=members.pop("message", f"it is {code}"), **members)
        self.answers[operation] = lambda _: error


class ApiProcess(Daemon):
    """``velum-api`` on a socket of its own; its log is beside its runtime directory.

    Args:
        runtime_dir: Where the workers listen, and the server.
        arguments: More of its command line.
        ready: Whether to wait until it listens.
        sockets: Those that it is passed as a service, by the name of each.
        options: More for ``subprocess.Popen``.
    """

    _instances = itertools.count()

    def __init__(
        self,
        runtime_dir: Path,
        *arguments: object,
        ready: bool = True,
        sockets: Mapping[str, socket.socket] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        log = runtime_dir.parent / f"{runtime_dir.name}-api-{next(self._instances)}.log"
        command: tuple[object, ...] = ("api_server", "--runtime-dir", runtime_dir, *arguments)
        if sockets:
            passed = ",".join(f"{name}={each.fileno()}" for name, each in sockets.items())
            command = ("tests.support.activated", passed, *command)
            options["pass_fds"] = [each.fileno() for each in sockets.values()]
        module, *rest = command
        super().__init__(str(module), *rest, log=log, **options)
        self.runtime_dir = runtime_dir
        self.socket = runtime_dir / "api.sock"
        if ready:
            try:
                wait_for_socket(self.socket)
            except TimeoutError:
                self.stop()
                raise

    def http(self, *, host: str = "localhost", timeout: float = 120.0) -> UnixHTTP:
        """Return a new connection; what comes over it has to be as the document says."""
        return ContractHTTP(self.socket, host=host, timeout=timeout)

    def request(self, method: str, name: str, body: Any = None, **kwargs: Any) -> Response:
        """Send one request for ``/api/v1/<name>`` on a connection of its own."""
        with self.http() as http:
            return http.request(method, f"/api/v1/{name}", body, **kwargs)
