# SPDX-License-Identifier: Apache-2.0
"""The API server as a process, and a peer that stands where a worker would."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import zmq
from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.server import Incoming, Server

from tests.support.http import Response, UnixHTTP, wait_for_socket

__all__ = ["SILENCE", "ApiProcess", "Peer"]

SILENCE: Final = object()
"""What an answer of a :class:`Peer` returns to answer nothing."""

Answer = Callable[[Incoming], Any]


def _ping(incoming: Incoming) -> VmmPing:
    del incoming
    return VmmPing(build_version="v1", version="1", pid=os.getpid(), features=("test",))


class Peer:
    """An IPC server on a thread, answering as told: a value, a ``VmError`` or ``SILENCE``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[Operation, Answer] = {Operation.VMM_PING: _ping}
        self.received: list[Incoming] = []
        self.server = Server(path)
        self._stop_reading, self._stop_writing = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"peer-{path.stem}")
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


class ApiProcess:
    """``velum-api`` on a socket of its own, with its log."""

    def __init__(self, runtime_dir: Path, *arguments: str, wait: bool = True, **popen: Any) -> None:
        self.runtime_dir = runtime_dir
        self.socket = runtime_dir / "api.sock"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command: Sequence[str] = (
            *(sys.executable, "-m", "api_server"),
            *("--runtime-dir", str(runtime_dir), *arguments),
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(command, stderr=self._log, env=environment, **popen)
        if wait:
            self.wait_until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        try:
            wait_for_socket(self.socket)
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()

    def http(self, *, host: str = "localhost", timeout: float = 30.0) -> UnixHTTP:
        """Return a new connection."""
        return UnixHTTP(self.socket, host=host, timeout=timeout)

    def request(self, method: str, name: str, body: Any = None, **kwargs: Any) -> Response:
        """Send one request for ``/api/v1/<name>`` on a connection of its own."""
        with self.http() as http:
            return http.request(method, f"/api/v1/{name}", body, **kwargs)

    def log(self) -> str:
        """Return what the process has logged so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()
