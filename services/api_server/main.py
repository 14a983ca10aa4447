# SPDX-License-Identifier: Apache-2.0
"""``velum-api``: the command line."""

from __future__ import annotations

import argparse
import grp
import math
import os
import resource
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from api_server import logs
from api_server.access import DEFAULT_PATH, Access
from api_server.activation import API, METRICS, PIN, Places, take_places
from api_server.audit_log import open_audit
from api_server.log_lines import LogFormat
from api_server.metrics.own import ApiMetrics
from api_server.peers import Peers
from api_server.server import Place, Server
from api_server.services import Services
from api_server.streams import Streams
from api_server.turns import THREADS, Turns
from ipc_protocol.errors import ApiFailure, VmFailure
from ipc_protocol.listener import MODE
from ipc_protocol.names import MAX_PATH_BYTES, RUNTIME_DIR, check_name, ipc_path
from ipc_protocol.version import BUILD_VERSION
from service_manager.passed import listen_fds

__all__ = ["main", "make_parser", "parse_arguments"]

_MAX_THREADS = 256
_ANYBODY = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


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


def _pin(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return _vm(name), _socket(path)


def _mode(text: str) -> int:
    value = int(text, 8)
    if value & ~_ANYBODY or not value & stat.S_IWUSR:
        raise argparse.ArgumentTypeError(f"{text} is no mode in which its owner may connect")
    return value


def _group(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError as ex:
        raise argparse.ArgumentTypeError(f"there is no group {text!r} on this host") from ex


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


def make_parser() -> argparse.ArgumentParser:
    """Return what parses the command line; every option has a default that works."""
    parser = argparse.ArgumentParser(
        prog="velum-api",
        description="Serve the HTTP API of the virtual machines on this host on a UNIX socket.",
        epilog="Sockets that systemd passes take the place of those named here: by the path, or "
        f"by FileDescriptorName={API}, {METRICS} or {PIN}NAME.",
    )
    parser.add_argument("--version", action="version", version=f"velum-api {BUILD_VERSION}")
    parser.add_argument(
        "--socket",
        type=_socket,
        metavar="PATH",
        help="where to listen (default: api.sock in the runtime directory)",
    )
    parser.add_argument(
        "--socket-mode",
        type=_mode,
        default=MODE,
        metavar="MODE",
        help=f"who may connect; what they may do then is in the access file (default: {MODE:o})",
    )
    parser.add_argument(
        "--socket-group",
        type=_group,
        metavar="GROUP",
        help="the group of the socket (default: the server's own)",
    )
    parser.add_argument(
        "--metrics-socket",
        type=_socket,
        metavar="PATH",
        help="where to serve GET /metrics, and nothing else, to whoever may connect",
    )
    parser.add_argument(
        "--metrics-group",
        type=_group,
        metavar="GROUP",
        help="the group of that socket (default: the server's own)",
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
    pinned.add_argument(
        "--pin",
        type=_pin,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="serve this VM, for any host, on a socket of its own as well; may be repeated",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=THREADS,
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
        "--shutdown-timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="on SIGTERM, time for requests under way to be answered (default: %(default)s)",
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
    parser.add_argument(
        "--access",
        type=Path,
        metavar="PATH",
        help=f"which users and groups have which role (default: {DEFAULT_PATH}; "
        "without it root and the group velum may do everything, and others nothing)",
    )
    parser.add_argument(
        "--audit-log",
        default="stderr",
        metavar="PATH",
        help="where it is told who changed what: a file, journal, or stderr (default: %(default)s)",
    )
    return parser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    options = make_parser().parse_args(arguments)
    if options.socket is None:
        options.socket = _socket(str(options.runtime_dir / "api.sock"))
    if options.vm is not None:
        options.ipc = ipc_path(options.runtime_dir, options.vm)
    return options


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may have; 1024 are few for all clients and workers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wanted(options: argparse.Namespace) -> Places:
    """Return where the command line would have the server listen."""
    mode, group = options.socket_mode, options.socket_group
    metrics = options.metrics_socket
    return Places(
        api=(Place(options.socket, mode, group),),
        metrics=() if metrics is None else (Place(metrics, group=options.metrics_group),),
        pins={Place(path, mode, group): name for name, path in options.pin},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; returns only if it cannot start."""
    options = parse_arguments(arguments)
    logs.configure(options.log_level, options.log_format)
    _raise_descriptor_limit()
    metrics = ApiMetrics()
    try:
        places = take_places(_wanted(options), listen_fds())
        peers = Peers(
            options.runtime_dir,
            options.default_vm,
            pinned=options.ipc,
            pins={
                str(place.path): ipc_path(options.runtime_dir, name)
                for place, name in places.pins.items()
            },
            timeout=options.timeout,
            observe=metrics.note_call,
        )
        access = Access() if options.access is None else Access(options.access, optional=False)
        audit = open_audit(options.audit_log, options.log_format)
        server = Server(
            (*places.api, *places.pins),
            Services(
                peers=peers,
                access=access,
                audit=audit,
                metrics=metrics,
                turns=Turns(options.threads),
                streams=Streams(patience=options.client_timeout),
            ),
            threads=options.threads,
            client_timeout=options.client_timeout,
            shutdown_timeout=options.shutdown_timeout,
            metrics=places.metrics,
        )
    except (ApiFailure, VmFailure) as ex:
        reason = ": ".join((ex.error.message, *ex.error.causes))
        print(f"velum-api: {reason}", file=sys.stderr)  # noqa: T201 - a command's way to say it
        return 1
    server.run()
    return 0
