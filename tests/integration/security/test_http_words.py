# SPDX-License-Identifier: Apache-2.0
"""Strange targets, hosts, framings and documents: each has the one right status."""

import json

import pytest

from tests.support.hostile import connect, head, read_to_end
from tests.support.processes import DEADLINE

CREATE = "/api/v1/vm.create"
DEEP = 100_000


def _exchange(server, data):
    """Send a request that closes; return the status and the code of the answer."""
    with connect(server) as client:
        client.sendall(data)
        answer = read_to_end(client)
    start, _, body = answer.partition(b"\r\n\r\n")
    code = json.loads(body)["code"] if b"application/problem+json" in start else None
    return int(start.split(b" ", 2)[1]), code


@pytest.fixture(autouse=True)
def _unharmed(server):
    yield
    assert server.request("GET", "vmm.ping").status == 200
    assert "Traceback" not in server.read_log()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/api/v1/vmm.ping\0", 400),
        ("/api/v1/vmm.ping\x7f", 400),
        ("/api/v1/vmm.ping%00", 404),
        ("/api/v1/vmm.ping%00.json", 404),
        ("/%00", 404),
        ("/api/v1/vmm.pïng", 400),
        ("/api/v1/\uff56\uff4d\uff4d.ping", 400),
        ("/api/v1/vmm.ping%E2%80%AE", 404),
        ("/api/v1/%f0%9f%92%a9", 404),
        ("/api/v1/%c0%ae%c0%ae/", 404),
        ("/api/v1/%ff%fe", 404),
        ("/api/v1/%zz", 404),
        ("/api/v1/%", 404),
        ("/api/v1/../../etc/passwd", 404),
        ("/api/v1/vmm.ping/..", 404),
        ("//api/v1/vmm.ping", 404),
        ("/api/v1/vmm.ping;x=y", 404),
        ("/api/v1/vmm.ping?x=y", 400),
        ("http://localhost/api/v1/vmm.ping", 200),
        ("HTTP://LOCALHOST:80/api/v1/vmm.ping", 200),
        ("http:///api/v1/vmm.ping", 200),
        ("http://user@localhost/api/v1/vmm.ping", 404),
        ("http://[::1]/api/v1/vmm.ping", 404),
        ("http://[/api/v1/vmm.ping", 400),
        ("file:///etc/passwd", 404),
        ("http://localhost", 404),
        ("*", 400),
        ("api/v1/vmm.ping", 400),
    ],
)
def test_targets(target, expected, server):
    assert _exchange(server, head("GET", target, connection="close"))[0] == expected


@pytest.mark.parametrize(
    "host",
    [
        b"\xff\xfe",
        "münchen".encode(),
        "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54".encode(),
        "\u212aernel".encode(),
        b"..",
        b"../default",
        b"default.ipc",
        b"%2e%2e",
        b"default/../default",
        b"x" * 8000,
        b"localhost localhost",
        b"localhost:99999999",
        b"localhost:-1",
        b"[::1]",
        b"a@b",
    ],
)
def test_hosts_that_name_no_vm(host, server):
    request = b"GET /api/v1/vmm.ping HTTP/1.1\r\nConnection: close\r\nHost: %b\r\n\r\n" % host
    assert _exchange(server, request)[0] in (400, 404)


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: a\0b",
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Content-Length: 2, 2",
        b"Content-Length: 0x2",
        b"Content-Length: 99999999999999999999999999",
        b"Content-Length: \xb2",
        b"Content-Length : 2",
        b" Content-Length: 2",
        b"X: y\r\n folded: yes",
        b"X: y\rZ: w",
        b"X: y\nZ: w",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ],
)
def test_framings_that_mean_two_things_are_refused(lines, server):
    """Whoever reads them differently would see another request in what follows."""
    smuggled = head("PUT", "/api/v1/vm.boot")
    request = b"PUT /api/v1/vm.nmi HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n{}%b"
    with connect(server) as client:
        client.sendall(request % (lines, smuggled))
        answer = read_to_end(client)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.split(b" ", 2)[1] in (b"400", b"413", b"501")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (b"2\r\n{}\r\n0\r\n\r\n", 204),
        (b"2;name=value\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", 204),
        (b"00000000000000002\r\n{}\r\n0\r\n\r\n", 204),
        (b"0\r\n\r\n", 204),
        (b"-2\r\n{}\r\n0\r\n\r\n", 400),
        (b"2\n{}\n0\n\n", 400),
        (b"0x2\r\n{}\r\n0\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"2;" + b"x" * 20_000, 400),
        (b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n", 400),
        (b"ffffffffffffffff\r\n{}", 400),
        (b"f" * 64 + b"\r\n{}", 400),
    ],
)
def test_chunks(chunks, expected, server):
    start = head("PUT", "/api/v1/vm.nmi", transfer_encoding="chunked", connection="close")
    with connect(server) as client:
        client.sendall(start + chunks)
        client.shutdown(1)
        answer = read_to_end(client)
    assert int(answer.split(b" ", 2)[1]) == expected


MALFORMED = (400, "malformed_json")
INVALID = (400, "invalid_config")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"[" * DEEP, MALFORMED),
        (b"[" * DEEP + b"]" * DEEP, MALFORMED),
        (b'{"payload":' * (DEEP // 2) + b"1" + b"}" * (DEEP // 2), MALFORMED),
        (b'{"payload":{"kernel":"/k"},"payload":{"kernel":"/k"}}', MALFORMED),
        (b'{"payload":{"kernel":"/k","\\u006bernel":"/k"}}', MALFORMED),
        (b'{"payload":{"kernel":"\xff"}}', MALFORMED),
        (b'{"payload":{"kernel":"\\ud800"}}', MALFORMED),
        (b'{"payload":{"kernel":"/k"}} {}', MALFORMED),
        (b'\xef\xbb\xbf{"payload":{"kernel":"/k"}}', MALFORMED),
        ('{"payload":{"kernel":"/k"}}'.encode("utf-16"), MALFORMED),
        (b'{"payload":{"kernel":"/k"},}', MALFORMED),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":NaN}}', MALFORMED),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":Infinity}}', MALFORMED),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":01}}', MALFORMED),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":1e999999999}}', None),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":%b}}' % (b"9" * 30_000), None),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":-9223372036854775809}}', INVALID),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":18446744073709551616}}', INVALID),
        (b'{"payload":{"kernel":"/k"},"memory":{"size":1.5}}', INVALID),
        (b'{"payload":{"kernel":"/k\\u0000"}}', INVALID),
        (b'{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":true,"max_vcpus":1}}', INVALID),
        (b'{"payload":{"kernel":"/k"},"%b":1}' % (b"x" * 100_000), None),
        (b'{"payload":{"kernel":"/k"},"":{"":{"":null}}}', None),
        (b'{"payload":{"kernel":"/k"},"disks":[%b]}' % b",".join([b"{}"] * 50_000), INVALID),
        (b'"' + b"\\" * 10_001 + b'"', MALFORMED),
        (b"null", (400, "invalid_request")),
        (b"0", INVALID),
        (b'"x"', INVALID),
        (b"[]", INVALID),
        (b"\0", MALFORMED),
    ],
)
def test_documents(document, expected, server):
    with server.http(timeout=DEADLINE) as http:
        answer = http.put(CREATE, document, headers={"Content-Type": "application/json"})
    assert answer.status in (400, 501)
    assert len(answer.body) < 64 << 10, "an answer is no amplifier"
    if expected is not None:
        assert (answer.status, answer.json["code"]) == expected
    assert all(ord(character) >= 32 for character in answer.json["detail"])
