# SPDX-License-Identifier: Apache-2.0
"""What each passed socket is for, by its name or its path."""

import os
import socket
from pathlib import Path

import pytest

from api_server.activation import Places, take_places
from api_server.server import Place
from ipc_protocol.errors import VmFailure
from service_manager.passed import Passed

API = Place(Path("/run/velum/api.sock"))
METRICS = Place(Path("/run/velum/metrics.sock"))
PIN = Place(Path("/run/velum/web-1.sock"))
WANTED = Places((API,), (METRICS,), {PIN: "web-1"})


@pytest.fixture
def opened(tmp_path):
    """Open a socket in a folder of the test."""
    sockets = []

    def open_one(name, path="x.sock", *, backlog=1):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sockets.append(one)
        one.bind(str(tmp_path / path))
        if backlog:
            one.listen(backlog)
        return Passed(name, one.fileno())

    yield open_one
    for one in sockets:
        one.close()


def test_without_any_all_are_made():
    assert take_places(WANTED, ()) == WANTED


def test_by_name_they_take_the_place_of_what_they_are_for(opened, tmp_path):
    api, metrics = opened("api"), opened("metrics", "y.sock")
    places = take_places(WANTED, [api, metrics])
    assert places.api == (Place(tmp_path / "x.sock", fd=api.fd),)
    assert places.metrics == (Place(tmp_path / "y.sock", fd=metrics.fd),)
    assert places.pins == WANTED.pins


def test_one_for_a_vm_comes_beside_those_that_are_wanted(opened, tmp_path):
    pin = opened("pin-web-2")
    places = take_places(WANTED, [pin])
    assert places.api == WANTED.api
    assert places.pins == {PIN: "web-1", Place(tmp_path / "x.sock", fd=pin.fd): "web-2"}


@pytest.mark.parametrize("role", ["api", "metrics", "pins"])
def test_a_path_that_is_wanted_says_what_it_is_for(role, opened, tmp_path):
    place = Place(tmp_path / "x.sock")
    wanted = WANTED._replace(**{role: {place: "web-1"} if role == "pins" else (place,)})
    passed = opened("unknown")
    found = take_places(wanted, [passed])
    taken = getattr(found, role)
    assert list(taken) == [Place(tmp_path / "x.sock", fd=passed.fd)]
    assert found._replace(**{role: None}) == wanted._replace(**{role: None})


@pytest.mark.parametrize("name", ["unknown", "velum-api.socket", "pin-", "pin-../x", ""])
def test_one_that_is_for_nothing_is_refused_with_the_way_out(name, opened):
    with pytest.raises(VmFailure, match="name it api, metrics or pin-VM"):
        take_places(WANTED, [opened(name)])


def test_what_cannot_be_served_on_is_refused_by_name(opened):
    with socket.socket(socket.AF_INET) as internet, socket.socket(socket.AF_UNIX) as nameless:
        internet.bind(("127.0.0.1", 0))
        internet.listen()
        for passed in (
            Passed("api", internet.fileno()),
            Passed("api", nameless.fileno()),
            opened("api", backlog=0),
        ):
            with pytest.raises(VmFailure, match=r"'api'.*ListenStream=/a/path"):
                take_places(WANTED, [passed])
            os.fstat(passed.fd)
    with Path(os.devnull).open("rb") as file, pytest.raises(VmFailure, match="'api'"):
        take_places(WANTED, [Passed("api", file.fileno())])
