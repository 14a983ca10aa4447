# SPDX-License-Identifier: Apache-2.0
"""Who may do what over the API, tried by processes of other users."""

import contextlib
import json
import os
import re
from typing import NamedTuple

import pytest

from api_server.roles import Role
from api_server.routes import PREFIX, ROUTES
from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer
from tests.support.http import UnixHTTP
from tests.support.processes import eventually, vm_config
from tests.support.users import connect_as, open_directory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")

_GROUP = 54000


class _User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


# None of these has a name: numbers are nobody's on any host.
_ADMIN = _User(54001, 54901)
_OPERATOR = _User(54002, _GROUP)
_VIEWER = _User(54003, 54903, (54904, _GROUP + 1))
_STRANGER = _User(54004, 54905)

_ACCESS = f"""
[admin]
users = ["root", {_ADMIN.uid}]

[operator]
groups = [{_GROUP}]

[viewer]
groups = [{_GROUP + 1}]
"""


class _Server(ApiProcess):
    """An API server that everybody may connect to, with an access file and an audit log."""

    def __init__(self, directory):
        runtime_dir = directory / "run"
        runtime_dir.mkdir()
        runtime_dir.chmod(0o755)
        self.access = directory / "access.toml"
        self.audit = directory / "audit.log"
        self.say(_ACCESS)
        super().__init__(
            runtime_dir,
            *("--socket-mode", "666", "--access", self.access),
            *("--audit-log", self.audit, "--log-format", "json"),
        )

    def say(self, access):
        """Replace the access file."""
        successor = self.access.with_suffix(".new")
        successor.write_text(access)
        successor.chmod(0o644)
        successor.rename(self.access)

    @contextlib.contextmanager
    def http_as(self, user, **kwargs):
        """Return a connection that a process of that user has made."""
        ready = connect_as(self.socket, user.uid, gid=user.gid, groups=user.groups)
        with UnixHTTP(self.socket, ready=ready, **kwargs) as http:
            yield http

    def audited(self):
        """Return the audit log, a dictionary a line."""
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
def directory():
    with open_directory() as directory:
        yield directory


@pytest.fixture
def server(directory):
    with _Server(directory) as server:
        yield server


@pytest.fixture
def peer(server):
    with Peer(ipc_path(server.runtime_dir, "default")) as peer:
        yield peer


def _assert_forbidden(response, *expected):
    assert (response.status, response.json["code"]) == (403, "forbidden"), response.body
    for each in expected:
        assert each in response.json["detail"]


@pytest.mark.parametrize(
    ("user", "role"),
    [(_ADMIN, Role.ADMIN), (_OPERATOR, Role.OPERATOR), (_VIEWER, Role.VIEWER)],
    ids=lambda value: value.name if isinstance(value, Role) else "",
)
def test_a_role_is_for_each_route_enough_or_not(server, peer, user, role):
    peer.answers[Operation.VMM_SHUTDOWN] = lambda _: None
    with server.http_as(user) as http:
        for path, route in ROUTES.items():
            if "events" in path:
                continue  # An answer without an end.
            response = http.request(str(route.method), path)
            if role >= route.role:
                assert response.status != 403, (path, response.body)
            else:
                _assert_forbidden(response, f"user {user.uid}", str(role), path.rpartition("/")[2])
        assert http.connected


def test_a_stranger_learns_nothing(server, peer):
    with server.http_as(_STRANGER) as http:
        for method, path in (("GET", "vmm.ping"), ("PUT", "vm.boot"), ("GET", "no.such")):
            response = http.request(method, PREFIX + path)
            _assert_forbidden(response, f"user {_STRANGER.uid}", str(server.access))
    assert peer.received == []


def test_by_default_only_root_may_even_connect(directory):
    runtime_dir = directory / "run"
    runtime_dir.mkdir(mode=0o755)
    with ApiProcess(runtime_dir) as server, Peer(ipc_path(runtime_dir, "default")):
        assert server.request("GET", "vmm.ping").status == 200
        with pytest.raises(ConnectionError, match="Permission denied"):
            connect_as(server.socket, _ADMIN.uid)
    with ApiProcess(runtime_dir, "--socket-group", _GROUP) as server:
        connect_as(server.socket, _STRANGER.uid, gid=_GROUP).close()
        ready = connect_as(server.socket, _STRANGER.uid, groups=(_GROUP,))
        with UnixHTTP(server.socket, ready=ready) as http:
            _assert_forbidden(http.get(PREFIX + "vmm.ping"))
        with pytest.raises(ConnectionError, match="Permission denied"):
            connect_as(server.socket, _STRANGER.uid)


def test_an_operator_names_nothing_of_the_host(server, peer):
    config = vm_config("/boot/vmlinuz", disks=[{"path": "/etc/shadow"}], net=[{"tap": "t0"}])
    with server.http_as(_OPERATOR) as http:
        response = http.put(PREFIX + "vm.create", config)
        _assert_forbidden(response, "vm.create", "/payload/kernel", "admin", "2 more")
        pointers = [each["pointer"] for each in response.json["errors"]]
        assert pointers == ["/payload/kernel", "/disks/0/path", "/net/0/tap"]
        assert http.put(PREFIX + "vm.boot").status == 204
    with server.http_as(_ADMIN) as http:
        assert http.put(PREFIX + "vm.create", config).status == 204
    assert [each.operation for each in peer.received] == [Operation.VM_BOOT, Operation.VM_CREATE]


def test_a_change_of_the_file_counts_for_connections_that_stand(server, peer):
    del peer
    with server.http_as(_VIEWER) as http:
        _assert_forbidden(http.put(PREFIX + "vm.boot"))
        server.say(f"[operator]\nusers = [{_VIEWER.uid}]\n")
        assert http.put(PREFIX + "vm.boot").status == 204
        server.say("[operator]\nuser = 1\n")
        assert http.put(PREFIX + "vm.boot").status == 204
        assert "`user`" in server.read_log()
        server.say("")
        _assert_forbidden(http.get(PREFIX + "vmm.ping"))


@pytest.mark.parametrize(
    ("access", "expected"),
    [("[admin\n", "line 1"), ("[admin]\nuser = ['root']\n", "`user`"), (None, "No such file")],
)
def test_a_file_that_is_wrong_from_the_start_is_told_in_one_line(tmp_path, access, expected):
    path = tmp_path / "access.toml"
    if access is not None:
        path.write_text(access)
    with ApiProcess(tmp_path, "--access", path, ready=False) as server:
        assert server.wait() == 1
        (line,) = server.read_log().splitlines()
    assert line.startswith("velum-api: the access file ")
    assert expected in line
    assert not server.socket.exists()


def test_what_is_changed_is_told_with_who_and_what_came_of_it(server, peer):
    headers = {"X-Request-Id": "order-66", "Host": "default"}
    with server.http_as(_OPERATOR) as http:
        http.get(PREFIX + "vmm.ping")
        assert http.put(PREFIX + "vm.boot", headers=headers).status == 204
        peer.fail(Operation.VM_PAUSE, "vm_not_running")
        answered = http.put(PREFIX + "vm.pause")
        http.put(PREFIX + "vmm.shutdown")
        http.put(PREFIX + "vm.nmi", headers={"Host": "web-7"})
        http.put(PREFIX + "vm.create", b"{")
    with server.http_as(_STRANGER) as http:
        http.get(PREFIX + "vm.info")
    lines = server.audited()
    shown = [(line["operation"], line["status"], line.get("code")) for line in lines]
    assert shown == [
        ("vm.boot", 204, None),
        ("vm.pause", 409, "vm_not_running"),
        ("vmm.shutdown", 403, "forbidden"),
        ("vm.nmi", 404, "vm_unknown"),
        ("vm.create", 400, "malformed_json"),
        ("vm.info", 403, "forbidden"),
    ]
    boot = lines[0]
    assert (boot["uid"], boot["gid"], boot["role"]) == (_OPERATOR.uid, _OPERATOR.gid, "operator")
    assert boot["pid"] > 0
    assert boot["vm"] == "default"
    assert lines[3]["host"] == "web-7"
    assert boot["request_id"] == "order-66"
    assert boot["duration_ms"] > 0
    assert re.fullmatch(r"20..-..-..T..:..:..\....Z", boot["time"])
    assert lines[1]["request_id"] == answered.headers["x-request-id"]
    assert lines[1]["request_id"] == answered.json["request_id"]
    assert (lines[5]["uid"], lines[5].get("role")) == (_STRANGER.uid, None)


def test_a_name_is_told_where_the_user_has_one(server, peer):
    del peer
    assert server.request("PUT", "vm.boot").status == 204
    (line,) = server.audited()
    assert (line["user"], line["uid"], line["pid"]) == ("root", 0, os.getpid())


def test_what_cannot_be_written_where_it_belongs_is_in_the_log(directory):
    (directory / "run").mkdir()
    with (
        ApiProcess(directory / "run", "--audit-log", "/dev/full") as server,
        Peer(ipc_path(directory / "run", "default")),
    ):
        assert server.request("PUT", "vm.boot").status == 204
        log = eventually(server.read_log, "a log")
    assert "No space left on device" in log
    assert re.search("the audit log cannot be written.* operation=vm.boot", log)
