# SPDX-License-Identifier: Apache-2.0
"""The HTTP API, as a client of its UNIX socket."""

from __future__ import annotations

import http.client
import secrets
import socket
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self

import msgspec

from velumctl.documents import Document
from velumctl.failures import ExitCode, Failure, Problem, Refusal
from velumctl.source import Source

__all__ = ["PREFIX", "Answer", "Api"]

PREFIX: Final = "/api/v1/"
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError)


class Answer(NamedTuple):
    """What the server answered to a request that it carried out, or has begun to."""

    status: int
    body: bytes
    headers: Message

    def document(self, kind: Any = Any) -> Any:
        """Return the decoded body.

        Args:
            kind: The type that it should be of.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except _NOT_JSON as ex:
            raise Failure(
                ExitCode.FAILED,
                f"the server's answer is not understood: {ex}",
                "are velum-api and velumctl of the same release?",
            ) from ex


class Api:
    """A connection to the server, for one VM.

    Args:
        path: The server's socket.
        vm: The VM's name, or ``localhost`` for the server's default one.
        timeout: Seconds without an answer after which a request is given up; ``None`` to leave
            that to the server.
    """

    def __init__(self, path: str, vm: str, *, timeout: float | None = None) -> None:
        self.path = path
        self.vm = vm
        self._connection = _UnixConnection(path, vm, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, name: str, kind: Any = Any) -> Any:
        """Return the document that a read operation answers with, as :meth:`Answer.document`."""
        return self.request("GET", PREFIX + name).document(kind)

    def put(
        self,
        name: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Carry out an operation.

        Args:
            name: The operation, with its query if it has one.
            body: A :class:`Document`, or anything that can be JSON.
            headers: More of the request's headers.

        Raises:
            Refusal: The server said no.
            Failure: The server is not there, or does not answer.
        """
        if not isinstance(body, Document):
            return self.request("PUT", PREFIX + name, body, headers)
        return self.request("PUT", PREFIX + name, body.value, headers, source=body.source)

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        source: Source | None = None,
    ) -> Answer:
        """Send a request and return its answer, as :meth:`put` does."""
        response = self.open(method, target, body, headers)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise self.refusal(response, source)
        return Answer(response.status, self._read(response), response.headers)

    def refusal(self, response: http.client.HTTPResponse, source: Source | None = None) -> Refusal:
        """Return what an answer says that is an error."""
        return Refusal(_problem(response.status, self._read(response)), source)

    def open(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, whatever it is, with its body still to read."""
        data = None if body is None else _encode(body)
        sent = {"X-Request-Id": f"velumctl-{secrets.token_hex(8)}", **(headers or {})}
        if data is not None:
            sent["Content-Type"] = "application/json"
        try:
            self._connection.request(method, target, body=data, headers=sent)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as ex:
            self._connection.close()
            raise self._lost(ex) from ex

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as ex:
            self._connection.close()
            raise self._lost(ex) from ex

    def _lost(self, ex: Exception) -> Failure:
        if isinstance(ex, TimeoutError):
            return Failure(
                ExitCode.TIMED_OUT,
                f"the API server at {self.path} did not answer in time",
                "what was asked for may still be done; `velumctl info` shows the VM's state",
            )
        if isinstance(ex, PermissionError):
            return Failure(
                ExitCode.FORBIDDEN,
                f"you may not connect to {self.path}",
                "ask whoever runs this host to let you in: docs/access.md says how",
            )
        reason = ex.strerror if isinstance(ex, OSError) and ex.strerror else str(ex)
        return Failure(
            ExitCode.UNAVAILABLE,
            f"the API server at {self.path} cannot be reached: {reason}",
            "is velum-api running? --socket or VELUM_API_SOCKET say where it listens",
        )


class _UnixConnection(http.client.HTTPConnection):
    """An ``HTTPConnection`` whose socket is in the file system."""

    def __init__(self, path: str, host: str, timeout: float | None) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _encode(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as ex:
        raise Failure(ExitCode.INVALID, f"this cannot be written as JSON: {ex}") from ex


def _problem(status: int, content: bytes) -> Problem:
    """Return what the server says, in Velum's form or in Cloud Hypervisor's."""
    try:
        problem = msgspec.json.decode(content, type=Problem)
    except _NOT_JSON:
        pass
    else:
        return msgspec.structs.replace(problem, status=status)
    try:
        outermost, *causes = msgspec.json.decode(content, type=tuple[str, ...])
    except (*_NOT_JSON, ValueError):
        return Problem(detail=f"the server answered {status}", status=status)
    return Problem(detail=outermost, status=status, causes=tuple(causes))
