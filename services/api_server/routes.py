# SPDX-License-Identifier: Apache-2.0
"""The one table from path to operation."""

from __future__ import annotations

from http import HTTPMethod, HTTPStatus
from typing import NamedTuple

from ipc_protocol.messages import Operation

__all__ = ["NOT_BUILT", "PREFIX", "ROUTES", "Route"]

PREFIX = "/api/v1/"


class Route(NamedTuple):
    """How an operation is asked for over HTTP, and how its success is told."""

    method: HTTPMethod
    operation: Operation
    success: HTTPStatus

    @property
    def methods(self) -> tuple[str, ...]:
        """What goes into ``Allow``: whoever may GET may HEAD (RFC 9110 section 9.1)."""
        if self.method is HTTPMethod.GET:
            return ("GET", "HEAD")
        return (str(self.method),)


def _read(operation: Operation) -> Route:
    return Route(HTTPMethod.GET, operation, HTTPStatus.OK)


def _change(operation: Operation) -> Route:
    return Route(HTTPMethod.PUT, operation, HTTPStatus.NO_CONTENT)


ROUTES: dict[str, Route] = {
    PREFIX + route.operation: route
    for route in (
        _read(Operation.VMM_PING),
        _change(Operation.VMM_SHUTDOWN),
        _change(Operation.VM_CREATE),
        _change(Operation.VM_BOOT),
        _read(Operation.VM_INFO),
        _read(Operation.VM_COUNTERS),
        _change(Operation.VM_PAUSE),
        _change(Operation.VM_RESUME),
        _change(Operation.VM_SHUTDOWN),
        _change(Operation.VM_REBOOT),
        _change(Operation.VM_DELETE),
        _change(Operation.VM_POWER_BUTTON),
        _change(Operation.VM_NMI),
        _change(Operation.VM_RESIZE),
    )
}

NOT_BUILT: frozenset[str] = frozenset(
    PREFIX + name
    for name in (
        "vm.add-device",
        "vm.add-disk",
        "vm.add-fs",
        "vm.add-generic-vhost-user",
        "vm.add-net",
        "vm.add-pmem",
        "vm.add-user-device",
        "vm.add-vdpa",
        "vm.add-vsock",
        "vm.coredump",
        "vm.receive-migration",
        "vm.remove-device",
        "vm.resize-disk",
        "vm.resize-zone",
        "vm.restore",
        "vm.send-migration",
        "vm.snapshot",
    )
)
"""Paths of the specification that are answered with ``not_supported``, not as unknown."""
