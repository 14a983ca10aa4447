# SPDX-License-Identifier: Apache-2.0
"""Sockets that the service manager opened for this server, and what each of them is for."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from api_server.server import Place
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.names import is_name
from service_manager.passed import Passed

__all__ = ["API", "METRICS", "PIN", "Places", "take_places"]

API: Final = "api"
METRICS: Final = "metrics"
PIN: Final = "pin-"
"""With the name of a VM behind it."""


class Places(NamedTuple):
    """Where a server listens."""

    api: tuple[Place, ...]
    metrics: tuple[Place, ...]
    pins: Mapping[Place, str]
    """Those for one VM, and its name."""


def take_places(wanted: Places, passed: Iterable[Passed]) -> Places:
    """Put sockets that are there already in the place of those that would be made.

    A socket is known by the name that its unit gave it, or by a path that is wanted. Those for
    all VMs take the place of what is wanted for all VMs, and those for metrics of that.

    Args:
        wanted: What the command line asks for.
        passed: What the service manager opened.

    Raises:
        VmFailure: ``host_resource``: nobody knows what one of them is for.
    """
    api, metrics, pins = [], [], {}
    pinned = {place.path: name for place, name in wanted.pins.items()}
    for name, fd in passed:
        place = Place(_path(name, fd), fd=fd)
        if name == API or place.path in {each.path for each in wanted.api}:
            api.append(place)
        elif name == METRICS or place.path in {each.path for each in wanted.metrics}:
            metrics.append(place)
        elif place.path in pinned:
            pins[place] = pinned[place.path]
        elif name.startswith(PIN) and is_name(name.removeprefix(PIN)):
            pins[place] = name.removeprefix(PIN)
        else:
            raise _refuse(
                name, f"is for nothing that is known: name it {API}, {METRICS} or {PIN}VM"
            )
    there = {place.path for place in pins}
    made = {place: name for place, name in wanted.pins.items() if place.path not in there}
    return Places(tuple(api) or wanted.api, tuple(metrics) or wanted.metrics, pins | made)


def _path(name: str, fd: int) -> Path:
    """Return where a socket listens; the descriptor stays the caller's."""
    try:
        with socket.socket(fileno=fd) as passed:
            address = passed.getsockname()
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            suits = passed.family == socket.AF_UNIX and passed.type == socket.SOCK_STREAM
            passed.detach()
    except OSError as ex:
        raise _refuse(name, "is none") from ex
    if not (suits and listens and isinstance(address, str) and address):
        raise _refuse(name, "is not what ListenStream=/a/path makes")
    return Path(address)


def _refuse(name: str, why: str) -> VmFailure:
    message = f"the socket {name!r} that the service manager passed {why} (FileDescriptorName=)"
    return VmFailure(ErrorCode.HOST_RESOURCE, message)
