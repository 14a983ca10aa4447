# SPDX-License-Identifier: Apache-2.0
"""``velum-api``: the command line."""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from api_server import logs
from api_server.log_lines import LogFormat
from api_server.peers import Peers
from api_server.server import Server
from api_server.services import Services
from ipc_protocol.errors import VmFailure
from ipc_protocol.names import MAX_PATH_BYTES, RUNTIME_DIR, check_name, ipc_path
from ipc_protocol.version import BUILD_VERSION

__all__ = ["main", "parse_arguments"]

_MAX_THREADS = 256


def _vm(text: str) -> str:
    try:
        return check_name(text)
    except VmFailure as ex:
        raise argparse.ArgumentTypeError(str(ex)) from ex


def _socket(text: str) -> Path:
    path = Path.cwd() / text
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is too long for a UNIX socket ({MAX_PATH_BYTES} bytes)"
        )
    return path


def _threads(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{value} is not in 1..{_MAX_THREADS}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; every option has a default that works."""
    parser = argparse.ArgumentParser(
        prog="velum-api",
        description="Serve the HTTP API of the virtual machines on this host on a UNIX socket.",
    )
    parser.add_argument("--version", action="version", version=f"velum-api {BUILD_VERSION}")
    parser.add_argument(
        "--socket",
        type=_socket,
        metavar="PATH",
        help="where to listen (default: api.sock in the runtime directory)",
    )
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path(RUNTIME_DIR),
        metavar="DIR",
        help="where the workers listen (default: %(default)s)",
    )
    parser.add_argument(
        "--default-vm",
        type=_vm,
        default="default",
        metavar="NAME",
        help="the VM that the host localhost stands for (default: %(default)s)",
    )
    pinned = parser.add_mutually_exclusive_group()
    pinned.add_argument("--vm", type=_vm, metavar="NAME", help="serve this VM only, for any host")
    pinned.add_argument(
        "--ipc", type=_socket, metavar="PATH", help="the same, by the socket of its worker"
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=32,
        metavar="N",
        help="requests that may wait for workers at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long to wait for a worker's answer (default: depends on the operation)",
    )
    parser.add_argument(
        "--client-timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long a client may take for a request or an answer (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="what to log to standard error (default: %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        type=LogFormat,
        default=LogFormat.LOGFMT,
        choices=tuple(LogFormat),
        help="how its lines look (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.socket is None:
        options.socket = _socket(str(options.runtime_dir / "api.sock"))
    if options.vm is not None:
        options.ipc = ipc_path(options.runtime_dir, options.vm)
    return options


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may have; 1024 are few for all clients and workers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; returns only if it cannot start."""
    options = parse_arguments(arguments)
    logs.configure(options.log_level, options.log_format)
    _raise_descriptor_limit()
    peers = Peers(
        options.runtime_dir, options.default_vm, pinned=options.ipc, timeout=options.timeout
    )
    try:
        server = Server(
            options.socket,
            Services(peers=peers),
            threads=options.threads,
            client_timeout=options.client_timeout,
        )
    except VmFailure as ex:
        reason = ": ".join((ex.error.message, *ex.error.causes))
        print(f"velum-api: {reason}", file=sys.stderr)  # noqa: T201 - a command's way to say it
        return 1
    server.run()
    return 0
