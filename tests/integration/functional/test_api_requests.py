# SPDX-License-Identifier: Apache-2.0
"""What a client of the API sees, with the real server and a peer in place of a worker."""

import json
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from api_server.routes import PREFIX, ROUTES, Missing
from api_server.specification.endpoints import ENDPOINTS
from api_server.specification.failures import ANYWHERE, failures
from api_server.status import STATUS
from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmError
from ipc_protocol.messages import Operation, VmInfo, VmState
from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer
from tests.support.contract import document

CONFIG = {
    "payload": {"kernel": "/boot/vmlinuz"},
    "cpus": {"boot_vcpus": 1, "max_vcpus": 2},
    "disks": [{"path": "/disk"}],
}
TYPED_CONFIG = msgspec.convert(CONFIG, VmConfig)
CALLS = [path for path, route in ROUTES.items() if isinstance(route.endpoint, Operation)]
CHANGES = [path for path in CALLS if ROUTES[path].method == "PUT"]
MISSING = [path for path, route in ROUTES.items() if isinstance(route.endpoint, Missing)]
PING = b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiProcess(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(autouse=True)
def peer(server):
    with Peer(ipc_path(server.runtime_dir, "default")) as peer:
        yield peer


@pytest.fixture
def http(server):
    with server.http() as http:
        yield http


def _raw(server, data, *, until=b""):
    """Send bytes and return what comes until the server closes or says ``until``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(server.socket))
        connection.sendall(data)
        answer = b""
        while not (until and answer.endswith(until)):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
    return answer


def _assert_problem(response, status, code):
    assert response.status == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json["status"] == status
    assert response.json["code"] == code
    assert response.json["detail"]


def test_ping(http):
    response = http.get("/api/v1/vmm.ping")
    assert response.status == 200
    assert response.headers["server"] == "Velum API"
    assert response.headers["content-type"] == "application/json"
    assert response.json["version"] == "1"
    assert response.json["features"] == ["test"]


def test_info_and_counters(http, peer):
    info = VmInfo(config=TYPED_CONFIG, state=VmState.RUNNING, memory_actual_size=1 << 29, boots=1)
    counters = {"__serial": {"rx_bytes": (1 << 64) - 1}}
    peer.answers[Operation.VM_INFO] = lambda _: info
    peer.answers[Operation.VM_COUNTERS] = lambda _: counters
    response = http.get("/api/v1/vm.info")
    assert response.status == 200
    assert response.json["state"] == "Running"
    assert response.json["memory_actual_size"] == 1 << 29
    assert response.json["config"]["payload"] == CONFIG["payload"]
    assert response.json["config"]["serial"] == {"mode": "Null"}
    assert "topology" not in response.json["config"]["cpus"], "what is not set is absent"
    assert response.json["config"]["disks"][0]["path"] == "/disk"
    assert "serial" not in response.json["config"]["disks"][0], "in lists as well"
    assert http.get("/api/v1/vm.counters").json == counters


def test_the_configuration_arrives_as_it_was_sent(http, peer):
    response = http.put("/api/v1/vm.create", CONFIG)
    assert (response.status, response.body) == (204, b"")
    assert "content-length" not in response.headers
    (incoming,) = peer.received
    assert incoming.operation is Operation.VM_CREATE
    assert incoming.body == TYPED_CONFIG


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_is_answered_with_204(path, http, peer):
    response = http.put(path, ENDPOINTS[path.removeprefix(PREFIX)].body)
    assert (response.status, response.body) == (204, b"")
    assert peer.received[-1].operation is ROUTES[path].endpoint


@pytest.mark.parametrize("body", [b"", b"{}", b" { } ", b"null"])
@pytest.mark.parametrize("path", ["/api/v1/vm.boot", "/api/v1/vm.power-button"])
def test_a_call_without_arguments_takes_nothing_or_an_empty_object(path, body, http):
    assert http.put(path, body).status == 204


@pytest.mark.parametrize("body", [b"[]", b"0", b"false", b'""', b'{"a": 1}'])
def test_a_call_without_arguments_takes_no_others(body, http, peer):
    _assert_problem(http.put("/api/v1/vm.boot", body), 400, "invalid_request")
    _assert_problem(http.put("/api/v1/vm.boot", b"{"), 400, "malformed_json")
    assert not peer.received


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"])
def test_methods(path, method, http, peer):
    route = ROUTES[path]
    response = http.request(method, path)
    if method in route.methods:
        assert response.status != 405
        return
    assert response.status == 405
    assert response.headers["allow"] == ", ".join(route.methods)
    if method != "HEAD":
        _assert_problem(response, 405, "method_not_allowed")
    assert not peer.received


def test_unusual_methods_and_targets(server):
    for request in (b"FOO /api/v1/vm.boot", b"TRACE /api/v1/vm.boot", b"CONNECT localhost:1"):
        answer = _raw(
            server, request + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert re.match(rb"HTTP/1.1 40[0-9] ", answer)
        assert b"application/problem+json" in answer
    answer = _raw(server, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b" 404 " in answer


def test_head_is_get_without_the_body(http):
    response = http.request("HEAD", "/api/v1/vmm.ping")
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["content-length"]) > 0
    assert http.get("/api/v1/vmm.ping").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/vm",
        "/api/v1/vm.inf",
        "/api/v1/vm.info/",
        "/api/v1//vm.info",
        "/api/v2/vm.info",
        "/API/v1/vm.info",
        "/api/v1/../v1/vm.info",
        "/api/v1/vm.info%00",
        "/api/v1/vm.info%0d%0aX:y",
        "/%ff",
    ],
)
def test_unknown_routes(target, http, peer):
    _assert_problem(http.get(target), 404, "route_not_found")
    assert not peer.received


@pytest.mark.parametrize("path", MISSING)
def test_what_is_not_built_is_named(path, http, peer):
    for body in (None, {}, {"id": "disk"}):
        response = http.put(path, body)
        _assert_problem(response, 501, "not_supported")
        assert f"{path}: {ROUTES[path].endpoint.what} is not built" in response.json["detail"]
    _assert_problem(http.put(path, b"{"), 400, "malformed_json")
    response = http.put(path, b"{}", headers={"Content-Type": "text/plain"})
    _assert_problem(response, 415, "unsupported_media_type")
    assert not peer.received


@pytest.mark.parametrize("path", ["/api/v1/vm.info", "/api/v1/vm.boot", "/api/v1/vm.snapshot"])
def test_a_query_parameter_that_is_not_known_is_named(path, http, peer):
    response = http.request(ROUTES[path].method, f"{path}?verbose=1")
    _assert_problem(response, 400, "invalid_request")
    assert "'verbose'" in response.json["detail"]
    assert http.request(ROUTES[path].method, f"{path}?").status != 400
    assert all(got.operation in ("vm.info", "vm.boot") for got in peer.received)


def test_the_error_of_a_worker_is_carried_whole(http, peer):
    for code, status in (
        (ErrorCode.VM_NOT_CREATED, 404),
        (ErrorCode.VM_ALREADY_RUNNING, 409),
        (ErrorCode.FILE_UNAVAILABLE, 422),
        (ErrorCode.OPERATION_IN_PROGRESS, 429),
    ):
        peer.fail(Operation.VM_BOOT, code, message="why", causes=("a", "b"))
        response = http.put("/api/v1/vm.boot")
        _assert_problem(response, status, code)
        assert response.json["detail"] == "why"
        assert response.json["causes"] == ["a", "b"]
    peer.fail(Operation.VM_CREATE, ErrorCode.INVALID_CONFIG, fields=(FieldError("/cpus", "wrong"),))
    response = http.put("/api/v1/vm.create", CONFIG)
    _assert_problem(response, 400, "invalid_config")
    assert response.json["errors"] == [{"pointer": "/cpus", "message": "wrong"}]


@pytest.mark.parametrize("path", CALLS)
def test_every_documented_failure_arrives_as_documented(path, http, peer):
    """The connection holds each answer against the document."""
    route = ROUTES[path]
    body = ENDPOINTS[path.removeprefix(PREFIX)].body
    for code in failures(route) - ANYWHERE:
        peer.fail(route.endpoint, code)
        _assert_problem(http.request(route.method, path, body), STATUS[code], code)


def test_the_documents_are_served(http, peer):
    served = http.get("/api/v1/openapi.json")
    assert served.status == 200
    assert served.json == document()
    lower = http.get("/api/v1/openapi-3.0.json").json
    assert lower["openapi"] == "3.0.3"
    assert set(lower["paths"]) == set(served.json["paths"])
    head = http.request("HEAD", "/api/v1/openapi.json")
    assert int(head.headers["content-length"]) == len(served.body)
    assert not peer.received, "no worker is needed"


def test_a_fault_of_the_worker_is_500_with_its_reference(http, peer, server):
    peer.fail(Operation.VM_BOOT, ErrorCode.INTERNAL, reference="feedc0de")
    response = http.put("/api/v1/vm.boot")
    _assert_problem(response, 500, "internal")
    assert response.json["reference"] == "feedc0de"
    assert "feedc0de" in server.read_log()


def test_an_answer_of_the_wrong_type_is_500_and_says_nothing_of_the_code(http, peer, server):
    peer.answers[Operation.VM_INFO] = lambda _: {"config": "secret"}
    response = http.get("/api/v1/vm.info")
    assert response.status == 500
    assert b"Traceback" not in response.body
    assert b".py" not in response.body
    assert response.json["reference"] in server.read_log()
    assert http.get("/api/v1/vmm.ping").status == 200


def test_all_invalid_fields_are_reported(http, peer):
    response = http.put("/api/v1/vm.create", {"payload": 7, "cpus": {"boot_vcpus": "many"}})
    _assert_problem(response, 400, "invalid_config")
    assert response.json["errors"]
    assert all(set(error) == {"pointer", "message"} for error in response.json["errors"])
    assert not peer.received


@pytest.mark.parametrize("body", [b"{", b'{"payload": {}, "payload": {}}', b"\xff", b"[" * 99_999])
def test_malformed_json(body, http, peer):
    response = http.put("/api/v1/vm.create", body, headers={"Content-Type": "application/json"})
    _assert_problem(response, 400, "malformed_json")
    assert not peer.received


def test_a_body_is_needed_where_one_is_needed(http):
    _assert_problem(http.put("/api/v1/vm.create"), 400, "invalid_request")
    _assert_problem(http.put("/api/v1/vm.create", b" \r\n"), 400, "invalid_request")


def test_content_types(http):
    body = json.dumps(CONFIG).encode()
    for accepted in ("application/json", "application/x-www-form-urlencoded", "application/a+json"):
        headers = {"Content-Type": accepted}
        assert http.put("/api/v1/vm.create", body, headers=headers).status == 204
    for refused in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        response = http.put("/api/v1/vm.create", body, headers=refused)
        _assert_problem(response, 415, "unsupported_media_type")
    assert http.put("/api/v1/vm.boot", headers={"Content-Type": "text/plain"}).status == 204


def test_a_body_at_the_limit_is_read_and_one_above_it_is_not(server, peer):
    body = json.dumps(CONFIG).encode()
    with server.http() as http:
        assert http.put("/api/v1/vm.create", body.ljust(4 << 20)).status == 204
        assert http.get("/api/v1/vmm.ping").status == 200
    with server.http() as http:
        response = http.put("/api/v1/vm.create", body.ljust((4 << 20) + 1))
        _assert_problem(response, 413, "payload_too_large")
    assert len([got for got in peer.received if got.operation is Operation.VM_CREATE]) == 1


def test_chunked_bodies(server, peer):
    body = json.dumps(CONFIG).encode()
    head = (
        b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert _raw(server, head + chunks, until=b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    assert peer.received[-1].body == TYPED_CONFIG

    large = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = _raw(server, head + large * 4 + b"1\r\n{\r\n0\r\n\r\n", until=b"}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    for broken in (b"x\r\n", b"-1\r\n", b"3\r\n{}", b"2\r\n{}xx"):
        answer = _raw(server, head + broken.ljust(80, b"x"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"code":"invalid_request"' in answer


def test_expect_100_continue(server):
    body = json.dumps(CONFIG).encode()
    head = b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(server.socket))
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")


def test_keep_alive_and_pipelining(server):
    with server.http() as http:
        for _ in range(50):
            assert http.get("/api/v1/vmm.ping").status == 200
            assert http.connected
        assert http.get("/nowhere").status == 404
        assert http.connected
    last = PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = _raw(server, PING * 9 + b"PUT /api/v1/vm.boot HTTP/1.1\r\nHost: x-1\r\n\r\n" + last)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200"] * 9 + [b"404"] + [b"200"]


def test_http_1_0_and_a_missing_host(server):
    answer = _raw(server, b"GET /api/v1/vmm.ping HTTP/1.0\r\n\r\n")
    assert re.match(rb"HTTP/1.[01] 200 ", answer)
    answer = _raw(server, b"GET /api/v1/vmm.ping HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_the_host_names_the_vm(server, peer):
    with Peer(ipc_path(server.runtime_dir, "web-1")) as other:
        for host, expected in (("web-1", other), ("WEB-1:80", other), ("localhost", peer)):
            with server.http(host=host) as http:
                assert http.put("/api/v1/vm.nmi").status == 204
            assert expected.received.pop().operation is Operation.VM_NMI
        with server.http() as http:
            assert http.put("http://web-1/api/v1/vm.nmi").status == 204
        assert other.received.pop().operation is Operation.VM_NMI
    for host in ("web-1", "web-2", "..", "a/b", "web_1", "a" * 64, "default.ipc"):
        with server.http() as http:
            response = http.get("/api/v1/vm.info", headers={"Host": host})
        _assert_problem(response, 404, "vm_unknown")
    assert not peer.received


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_the_same_form(data, server):
    answer = _raw(server, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Server: Velum API" in head
    assert b"Connection: close" in head
    assert json.loads(body)["code"] == "invalid_request"
    assert b"gunicorn" not in answer
    assert b"Traceback" not in answer
    assert server.request("GET", "vmm.ping").status == 200


def test_threads_never_get_each_other_s_answers(server, peer):
    def refuse(incoming):
        return VmError(code=ErrorCode.INVALID_CONFIG, message=incoming.body.payload.kernel)

    peer.answers[Operation.VM_CREATE] = refuse

    def client(index):
        with server.http() as http:
            for turn in range(40):
                mark = f"/kernel-{index}-{turn}"
                config = {"payload": {"kernel": mark}, "cpus": CONFIG["cpus"]}
                assert http.put("/api/v1/vm.create", config).json["detail"] == mark
                assert http.get("/api/v1/vmm.ping").json["version"] == "1"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))


def test_curl(server, tmp_path):
    def curl(*arguments):
        command = ("curl", "-sS", "--max-time", "20", "--unix-socket", str(server.socket))
        write_out = "\n%{http_code} %{content_type}"
        result = subprocess.run(
            (*command, "-w", write_out, *arguments), capture_output=True, check=True, text=True
        )
        body, _, status = result.stdout.rpartition("\n")
        return body, status

    base = "http://localhost/api/v1"
    body, status = curl(f"{base}/vmm.ping")
    assert (json.loads(body)["version"], status) == ("1", "200 application/json")
    assert curl("-X", "PUT", f"{base}/vm.boot") == ("", "204 ")
    assert curl("-X", "PUT", "-d", json.dumps(CONFIG), f"{base}/vm.create") == ("", "204 ")
    large = tmp_path / "large.json"
    large.write_bytes(json.dumps(CONFIG).encode().ljust(3 << 20))
    assert curl("-T", str(large), f"{base}/vm.create") == ("", "204 ")
    assert curl("-T", "-", "-H", "Expect:", f"{base}/vm.boot") == ("", "204 ")
    large.write_bytes(b" " * (6 << 20))
    assert curl("-T", str(large), f"{base}/vm.create")[1] == "413 application/problem+json"
    assert curl("-I", f"{base}/vmm.ping")[1] == "200 application/json"
    assert curl(f"{base}/vm.boot")[1] == "405 application/problem+json"
    assert curl("http://nobody/api/v1/vm.info")[1] == "404 application/problem+json"
