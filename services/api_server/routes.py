# SPDX-License-Identifier: Apache-2.0
"""The one table from path to what answers there."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import falcon

from api_server.events import answer_events
from api_server.listing import list_workers
from api_server.metrics import page
from api_server.query import COMPAT, DRY_RUN, Parameter
from api_server.roles import Role
from api_server.services import Services
from api_server.specification import served
from ipc_protocol.messages import Operation

if TYPE_CHECKING:
    from api_server.request import Request

__all__ = [
    "ALIASES",
    "INTERNAL",
    "METRICS",
    "PREFIX",
    "ROUTES",
    "Answer",
    "Endpoint",
    "Missing",
    "Route",
]

PREFIX = "/api/v1/"
METRICS = "/metrics"
"""Where Prometheus looks, if it is told nothing else."""

Answer: TypeAlias = "Callable[[Request, falcon.Response, Services], None]"
"""Answers without a worker, or from several; such a request has no body."""


class Missing(NamedTuple):
    """A path of the specification that nothing answers yet."""

    what: str
    """What is not built, as the subject of a sentence."""


Endpoint: TypeAlias = "Operation | Answer | Missing"


class Route(NamedTuple):
    """How something is asked for over HTTP, who may, and how its success is told."""

    method: HTTPMethod
    endpoint: Endpoint
    success: HTTPStatus
    role: Role
    query: tuple[Parameter, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """What goes into ``Allow``: whoever may GET may HEAD (RFC 9110 section 9.1)."""
        if self.method is HTTPMethod.GET:
            return ("GET", "HEAD")
        return (str(self.method),)


def _read(endpoint: Endpoint) -> Route:
    return Route(HTTPMethod.GET, endpoint, HTTPStatus.OK, Role.VIEWER)


def _change(
    operation: Operation, role: Role = Role.OPERATOR, *, query: tuple[Parameter, ...] = ()
) -> Route:
    return Route(HTTPMethod.PUT, operation, HTTPStatus.NO_CONTENT, role, query)


def _missing(what: str, role: Role = Role.ADMIN) -> Route:
    return Route(HTTPMethod.PUT, Missing(what), HTTPStatus.NOT_IMPLEMENTED, role)


ROUTES: dict[str, Route] = {
    PREFIX + name: route
    for name, route in {
        "vmm.ping": _read(Operation.VMM_PING),
        "vmm.list": _read(list_workers),
        "vmm.shutdown": _change(Operation.VMM_SHUTDOWN, Role.ADMIN),
        "vmm.jobs": _read(Operation.VMM_JOBS),
        "vmm.cancel": _change(Operation.VMM_CANCEL),
        "vmm.events": _read(answer_events),
        "vm.create": _change(Operation.VM_CREATE, query=(DRY_RUN, COMPAT)),
        "vm.boot": _change(Operation.VM_BOOT),
        "vm.info": _read(Operation.VM_INFO),
        "vm.counters": _read(Operation.VM_COUNTERS),
        "vm.pause": _change(Operation.VM_PAUSE),
        "vm.resume": _change(Operation.VM_RESUME),
        "vm.shutdown": _change(Operation.VM_SHUTDOWN),
        "vm.reboot": _change(Operation.VM_REBOOT),
        "vm.delete": _change(Operation.VM_DELETE),
        "vm.power-button": _change(Operation.VM_POWER_BUTTON),
        "vm.nmi": _change(Operation.VM_NMI),
        "vm.resize": _change(Operation.VM_RESIZE),
        "vm.resize-disk": _missing("resizing a disk", Role.OPERATOR),
        "vm.resize-zone": _missing("a memory zone", Role.OPERATOR),
        "vm.add-disk": _change(Operation.VM_ADD_DISK, query=(COMPAT,)),
        "vm.add-net": _change(Operation.VM_ADD_NET, query=(COMPAT,)),
        "vm.add-pmem": _change(Operation.VM_ADD_PMEM, query=(COMPAT,)),
        "vm.add-vsock": _change(Operation.VM_ADD_VSOCK, query=(COMPAT,)),
        "vm.add-fs": _missing("sharing a directory (virtio-fs)"),
        "vm.add-vdpa": _missing("a vDPA device"),
        "vm.add-device": _missing("passing a host device through (VFIO)"),
        "vm.add-user-device": _missing("a device of another process (vfio-user)"),
        "vm.add-generic-vhost-user": _missing("a device of another process (vhost-user)"),
        "vm.remove-device": _change(Operation.VM_REMOVE_DEVICE),
        "vm.snapshot": _missing("saving a VM"),
        "vm.restore": _missing("restoring a saved VM"),
        "vm.coredump": _missing("a dump of the guest's memory"),
        "vm.send-migration": _missing("live migration"),
        "vm.receive-migration": _missing("live migration"),
        "openapi.json": _read(served.answer_openapi),
        "openapi-3.0.json": _read(served.answer_openapi_3_0),
    }.items()
} | {METRICS: _read(page.answer)}

ALIASES: dict[str, str] = {PREFIX + "vmm.nmi": PREFIX + "vm.nmi"}
"""Other paths of the same: Cloud Hypervisor's document had them before v53, and so its clients."""

ROUTES |= {alias: ROUTES[path] for alias, path in ALIASES.items()}

INTERNAL: frozenset[Operation] = frozenset({Operation.VMM_EVENTS, Operation.VMM_METRICS})
"""Operations between our own processes: what asks for them over HTTP is no plain call."""
