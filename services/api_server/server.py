# SPDX-License-Identifier: Apache-2.0
"""gunicorn, told what this server is: one process of threads on UNIX sockets."""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from gunicorn.app.base import BaseApplication

from api_server.app import create_app, create_metrics_app
from api_server.arbiter import ApiArbiter, heartbeat_seconds
from api_server.logs import GunicornLog
from api_server.services import Services
from api_server.worker import ApiWorker
from ipc_protocol.errors import VmFailure
from ipc_protocol.listener import MODE, SocketPath

__all__ = ["Place", "Server"]

_log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds for which the path may still be taken when starting."""
KEEPALIVE = 75
CONNECTIONS = 512


class Place(NamedTuple):
    """Where to listen."""

    path: Path
    mode: int = MODE
    """Who may connect, as permission bits."""
    group: int | None = None
    """The socket's group, by number."""
    fd: int | None = None
    """The socket, if somebody else made it and keeps it: then it has what mode and group it has,
    and stays when the server ends. If not, a stale one at the path is replaced."""


class Server(BaseApplication):
    """Serves the API on one or more paths until SIGTERM.

    Args:
        places: Where.
        services: What the application answers from.
        threads: How many requests may wait for workers at a time.
        client_timeout: Seconds that a client may take to send a request or to read an answer.
        shutdown_timeout: Seconds that requests under way get to be answered after SIGTERM.
        metrics: Where the metrics are served besides, and nothing else is.

    Raises:
        VmFailure: ``host_resource``, the path cannot be listened on.
    """

    def __init__(
        self,
        places: Sequence[Place],
        services: Services,
        *,
        threads: int,
        client_timeout: float,
        shutdown_timeout: float,
        metrics: Sequence[Place] = (),
    ) -> None:
        self._services = services
        self._threads = threads
        self._client_timeout = client_timeout
        self._shutdown_timeout = math.ceil(shutdown_timeout)
        self._metrics_paths = frozenset(str(each.path) for each in metrics)
        self._runtime_dir = places[0].path.parent
        self._listeners: dict[str, int] = {}
        """By path, the descriptor."""
        with ExitStack() as sockets:
            # The first comes last: who finds it there finds all others.
            for each in reversed((*places, *metrics)):
                fd = each.fd
                if fd is None:
                    listening = _listen(each)
                    sockets.callback(listening.close)
                    fd = listening.detach()
                self._listeners[str(each.path)] = fd
            self._sockets = sockets.pop_all()
        self._lifeline = os.pipe()
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn would otherwise take from files and the environment."""
        settings = {
            "bind": [f"fd://{listener}" for listener in self._listeners.values()],
            "workers": 1,
            "worker_class": ApiWorker,
            "threads": self._threads,
            "worker_connections": CONNECTIONS,
            "preload_app": True,
            "keepalive": KEEPALIVE,
            "timeout": heartbeat_seconds(),
            "graceful_timeout": self._shutdown_timeout,
            "limit_request_line": 4094,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            # The heartbeat is the mtime of an open file; on a disk it would be I/O.
            "worker_tmp_dir": _own_dir() or _memory_dir() or str(self._runtime_dir),
            "logger_class": GunicornLog,
            "proc_name": "velum-api",
            "http_parser": "python",
            "http_protocols": "h1",
            # Nobody in front of us is to be believed: there is nobody in front of us.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "secure_scheme_headers": {},
            "control_socket_disable": True,
            "when_ready": self._when_ready,
            "pre_fork": self._pre_fork,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serve; returns only by ``SystemExit``."""
        ApiArbiter(self, self._sockets.close).run()

    @property
    def _paths(self) -> str:
        return " and ".join(reversed(self._listeners))

    def load(self) -> Any:
        """Build the application, once and before the fork."""
        api = create_app(self._services)
        if not self._metrics_paths:
            return api
        metrics = create_metrics_app(self._services)

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            arrived_at = environ["gunicorn.socket"].getsockname()
            return (metrics if arrived_at in self._metrics_paths else api)(environ, start_response)

        return application

    def _when_ready(self, _arbiter: object) -> None:
        _log.info("listening on %s", self._paths)

    def _pre_fork(self, _arbiter: object, worker: ApiWorker) -> None:
        worker.lifeline = self._lifeline
        worker.client_timeout = self._client_timeout
        worker.metrics_paths = self._metrics_paths
        worker.listening = self._paths
        worker.metrics = self._services.metrics
        worker.streams = self._services.streams
        # Objects from before the fork stay on shared pages if no collection touches them.
        gc.collect()
        gc.freeze()


def _listen(place: Place) -> SocketPath:
    """Take the path, waiting a moment for a server that was just killed to be gone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return SocketPath(str(place.path), mode=place.mode, group=place.group)
        except VmFailure:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _own_dir() -> str | None:
    """Return the folder that the service manager made for us, if it made any."""
    return os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None


def _memory_dir() -> str | None:
    path = "/dev/shm"  # noqa: S108 - gunicorn makes its file there by mkstemp
    return path if os.access(path, os.W_OK | os.X_OK) else None
