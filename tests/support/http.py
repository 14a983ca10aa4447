# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 over a UNIX socket, as a client of the API speaks it.

One connection, kept alive until the server or :meth:`UnixHTTP.close` ends it::

    with UnixHTTP("/run/velum/api.sock") as api:
        assert api.get("/api/v1/vmm.ping").json["version"]
        assert api.put("/api/v1/vm.create", {"payload": {...}}).status == 204
"""

from __future__ import annotations

import http.client
import json as json_module
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Response", "UnixHTTP", "wait_for_socket"]


@dataclass(frozen=True)
class Response:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    """Keys are lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json_module.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    """An ``HTTPConnection`` whose socket is in the file system."""

    def __init__(self, path: str, host: str, timeout: float, ready: socket.socket | None) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path
        self._ready = ready

    def connect(self) -> None:
        if self._ready is not None:
            self.sock, self._ready = self._ready, None
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class UnixHTTP:
    """One keep-alive connection; not for use by two threads at once.

    Args:
        path: Where the server listens.
        host: What the header says.
        timeout: Seconds to wait for anything.
        ready: A connection that stands already, to begin with.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        host: str = "localhost",
        timeout: float = 120.0,
        ready: socket.socket | None = None,
    ) -> None:
        if ready is not None:
            ready.settimeout(timeout)
        self._connection = _UnixConnection(str(path), host, timeout, ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the last answer left the connection open."""
        return self._connection.sock is not None

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and read its answer.

        Args:
            method: ``GET``, ``PUT``, or anything else.
            target: The request target, ``/api/v1/vm.info``.
            body: ``bytes`` as they are; anything else but ``None`` as JSON.
            headers: Additional ones; a ``Host`` replaces the default.
        """
        if body is not None and not isinstance(body, bytes):
            body = json_module.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            self._connection.request(method, target, body=body, headers=dict(headers or {}))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body answers before it has all of it: the answer is there.
            if self._connection.sock is None:
                raise
            return self._early_answer()
        return _read(self._connection.getresponse())

    def get(self, target: str, **kwargs: Any) -> Response:
        return self.request("GET", target, **kwargs)

    def put(self, target: str, body: Any = None, **kwargs: Any) -> Response:
        return self.request("PUT", target, body, **kwargs)

    def _early_answer(self) -> Response:
        response = http.client.HTTPResponse(self._connection.sock)
        try:
            response.begin()
            return _read(response)
        finally:
            self._connection.close()


def _read(response: http.client.HTTPResponse) -> Response:
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, body)


def wait_for_socket(path: str | Path, *, timeout: float = 240.0) -> None:
    """Return once somebody listens on ``path``."""
    deadline = time.monotonic() + timeout
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError as ex:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nobody listens on {path}: {ex}") from ex
            else:
                return
        time.sleep(0.01)
