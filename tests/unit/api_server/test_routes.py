# SPDX-License-Identifier: Apache-2.0
from http import HTTPStatus

import pytest

from api_server.roles import Role
from api_server.routes import ALIASES, INTERNAL, PREFIX, ROUTES, Missing
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.validation import PARSERS

CALLS = {
    path: route
    for path, route in ROUTES.items()
    if isinstance(route.endpoint, Operation) and path not in ALIASES
}
MISSING = {path: route for path, route in ROUTES.items() if isinstance(route.endpoint, Missing)}

SPECIFICATION = {
    *("vmm.ping", "vmm.shutdown", "vm.create", "vm.boot", "vm.info", "vm.counters", "vm.delete"),
    *("vm.shutdown", "vm.reboot", "vm.pause", "vm.resume", "vm.power-button", "vm.nmi"),
    *("vm.resize", "vm.resize-disk", "vm.resize-zone"),
    *("vm.add-disk", "vm.add-net", "vm.add-fs", "vm.add-pmem", "vm.add-vsock", "vm.add-vdpa"),
    *("vm.add-generic-vhost-user", "vm.add-device", "vm.add-user-device", "vm.remove-device"),
    *("vm.snapshot", "vm.restore", "vm.coredump", "vm.receive-migration", "vm.send-migration"),
}
"""The endpoints of Cloud Hypervisor's API."""


def test_every_endpoint_of_cloud_hypervisor_is_routed():
    assert len(SPECIFICATION) == 31
    assert {PREFIX + name for name in SPECIFICATION} <= set(ROUTES)


def test_every_operation_has_exactly_one_route_and_every_route_an_operation():
    called = [route.endpoint for route in CALLS.values()]
    assert sorted([*called, *INTERNAL]) == sorted(Operation)
    assert set(Operation) == set(SIGNATURES)


@pytest.mark.parametrize("path", CALLS)
def test_a_path_is_the_name_of_its_operation(path):
    assert path == f"/api/v1/{CALLS[path].endpoint}"


@pytest.mark.parametrize("route", CALLS.values(), ids=lambda route: route.endpoint)
def test_method_status_and_role_follow_from_the_signature(route):
    signature = SIGNATURES[route.endpoint]
    assert route.method == ("GET" if signature.reads else "PUT")
    expected = HTTPStatus.NO_CONTENT if signature.result is None else HTTPStatus.OK
    assert route.success is expected
    assert (route.role is Role.VIEWER) == signature.reads
    assert signature.request is None or signature.request in PARSERS


def test_an_alias_is_the_same_route():
    for alias, path in ALIASES.items():
        assert ROUTES[alias] is ROUTES[path]


def test_what_is_not_built_says_what_is_missing():
    assert MISSING
    for path, route in MISSING.items():
        assert path.removeprefix(PREFIX) in SPECIFICATION
        assert route.success is HTTPStatus.NOT_IMPLEMENTED
        assert route.endpoint.what
        assert route.role > Role.VIEWER


def test_what_may_be_got_may_be_asked_for_its_head():
    assert ROUTES["/api/v1/vm.info"].methods == ("GET", "HEAD")
    assert ROUTES["/api/v1/vm.boot"].methods == ("PUT",)
