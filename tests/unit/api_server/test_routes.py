# SPDX-License-Identifier: Apache-2.0
from http import HTTPStatus

import pytest

from api_server.routes import NOT_BUILT, ROUTES
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.validation import PARSERS


def test_every_operation_has_exactly_one_route_and_every_route_an_operation():
    assert sorted(route.operation for route in ROUTES.values()) == sorted(Operation)
    assert set(Operation) == set(SIGNATURES)


@pytest.mark.parametrize("path", ROUTES)
def test_a_path_is_the_name_of_its_operation(path):
    assert path == f"/api/v1/{ROUTES[path].operation}"


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.operation)
def test_method_and_status_follow_from_the_signature(route):
    signature = SIGNATURES[route.operation]
    assert route.method == ("GET" if signature.reads else "PUT")
    expected = HTTPStatus.NO_CONTENT if signature.result is None else HTTPStatus.OK
    assert route.success is expected
    assert signature.request is None or signature.request in PARSERS


def test_what_may_be_got_may_be_asked_for_its_head():
    assert ROUTES["/api/v1/vm.info"].methods == ("GET", "HEAD")
    assert ROUTES["/api/v1/vm.boot"].methods == ("PUT",)


def test_what_is_not_built_has_no_route():
    assert not NOT_BUILT & set(ROUTES)
