# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on a UNIX socket that answers as a test says: for what no real one does on cue."""

from __future__ import annotations

import http.server
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

__all__ = ["Reply", "Request", "ScriptedApi", "problem"]


class Request(NamedTuple):
    """What a client sent."""

    method: str
    target: str
    headers: dict[str, str]
    """Keys are lower case."""
    body: Any
    """Decoded; ``None`` when there is none."""


class Reply(NamedTuple):
    """What it is answered."""

    status: int
    body: bytes | Iterable[bytes] = b""
    """Pieces are sent as they come, and their end is the connection's."""
    kind: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})


def problem(status: int, code: str, detail: str, **members: Any) -> Reply:
    """Return the answer that is an error."""
    document = {"status": status, "code": code, "detail": detail, **members}
    return Reply(status, json.dumps(document).encode(), "application/problem+json")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(data) if data else None
        request = Request(self.command, self.path, headers, body)
        self.server.owner.received.append(request)
        reply = self.server.owner.answer(request)
        if reply is None:
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
            self.send_header(name, value)
        if isinstance(reply.body, bytes):
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in reply.body:
            self.wfile.write(piece)
            self.wfile.flush()

    do_GET = do_PUT = _answer  # noqa: N815 - as the base class finds them


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True
    owner: ScriptedApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is that the client has left."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ScriptedApi:
    """Answers each request by a function, on threads of its own, until it is closed.

    Args:
        path: The socket.
        answer: Returns a request's answer; ``None`` hangs up instead.
    """

    def __init__(self, path: Path, answer: Callable[[Request], Reply | None]) -> None:
        self.path = path
        self.answer = answer
        self.received: list[Request] = []
        self._server = _Server(str(path), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.path.unlink()
