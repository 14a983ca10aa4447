# SPDX-License-Identifier: Apache-2.0
"""Where the time of one ``vmm.ping`` goes: each layer measured by itself, the rest by what is left.

The parts add up to what a client waits: what is not of the application, the codec or the worker
is gunicorn's, with the sockets and the client's own part of it, or ZeroMQ's, with the switches
from thread to thread.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api_server.access import Access
from api_server.app import create_app
from api_server.audit_log import AuditStream
from api_server.log_lines import LogFormat
from api_server.peers import Peers
from api_server.services import Services
from ipc_protocol import codec, envelope
from ipc_protocol.client import Client
from ipc_protocol.messages import Operation, VmmPing
from tests.integration.performance.measure import Results, percentile

__all__ = ["measure_layers"]

_TIMES = 1000
_NANOSECONDS_IN_MS = 1e6
_PING = VmmPing(build_version="v0.0.0", version="0.0.0", pid=1, features=("io_uring", "kvm"))


def _median_ms(function: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        started = time.monotonic_ns()
        function()
        times.append((time.monotonic_ns() - started) / _NANOSECONDS_IN_MS)
    return percentile(times, 50)


def _there_and_back() -> None:
    """Do with the messages of a ping what both processes do, one after the other."""
    request = envelope.Request(
        id=envelope.new_id(), operation=Operation.VMM_PING, deadline_ns=time.monotonic_ns()
    )
    asked = envelope.decode_request(envelope.encode_request(request))
    reply = envelope.encode_reply(envelope.Reply(id=asked.id, value=_PING))
    codec.convert(envelope.decode_reply(reply).value, VmmPing)


class _NoWorkers(Peers):
    """Answers by itself what a worker would."""

    def call(self, *_: object, **__: object) -> Any:
        return _PING


def _application_ms() -> float:
    """Return the time of Falcon, the middleware and the handler alone."""
    peers = _NoWorkers(Path("/nonexistent"), "default")
    audit = AuditStream(LogFormat.LOGFMT)
    app = create_app(Services(peers=peers, access=Access(), audit=audit))
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        environ = {
            "REQUEST_METHOD": "GET",
            "RAW_URI": "/api/v1/vmm.ping",
            "PATH_INFO": "/api/v1/vmm.ping",
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "gunicorn.socket": ours,
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
        }

        def ask() -> None:
            request = {**environ, "wsgi.input": io.BytesIO()}
            b"".join(app(request, lambda *_: None))  # type: ignore[arg-type, return-value]

        return _median_ms(ask)


def measure_layers(results: Results, ipc: str | os.PathLike[str], whole_ms: float) -> None:
    """Measure the layers.

    Args:
        results: Where to.
        ipc: The socket of a worker that has nothing else to do.
        whole_ms: What a client waits for a ping over HTTP.
    """
    with Client(ipc) as client:
        exchange = _median_ms(lambda: client.call(Operation.VMM_PING))
        times = client.call(Operation.VMM_METRICS).operations[Operation.VMM_PING].latency
    worker = times.sum / sum(times.counts) * 1000
    messages = _median_ms(_there_and_back)
    application = _application_ms()
    for name, value in (
        ("gunicorn, sockets, the client", whole_ms - application - exchange),
        ("Falcon, middleware, handler", application),
        ("codec, both processes", messages),
        ("ZeroMQ, thread switches", exchange - messages - worker),
        ("worker", worker),
    ):
        results.add(f"vmm.ping, of it: {name}", "ms", value)
