# SPDX-License-Identifier: Apache-2.0
"""Too much of everything: connections, requests, bytes. Memory is bounded, others are served."""

import contextlib
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_server.body import MAX_BODY
from tests.support.hostile import Usage, connect, head, listening, read_to_end, serving, status
from tests.support.processes import eventually

MIB = 1 << 20
CONNECTIONS = 10_000
SPARE = 500
"""Descriptors for everything else."""


@pytest.fixture
def many_descriptors():
    """Let this process have as many descriptors as it may; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(CONNECTIONS, hard - SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("words", [b"", b"GET /", head()], ids=["silent", "half", "served"])
def test_ten_thousand_connections(words, server, many_descriptors):
    assert server.request("GET", "vmm.ping").status == 200
    before, process = Usage.of_server(server), serving(server.pid)
    with server.http() as regular, listening(server, many_descriptors) as clients:
        for client in clients:
            # Those that the server has closed for others meanwhile.
            with contextlib.suppress(BrokenPipeError):
                client.sendall(words)
        assert server.request("GET", "vmm.ping").status == 200
        assert regular.get("/api/v1/vmm.ping").status == 200
        during = Usage.of_server(server)
        assert during.descriptors - before.descriptors < 800
        assert during.memory - before.memory < 32 * MIB
    # Every thread keeps its way to the worker.
    eventually(
        lambda: Usage.of_server(server).descriptors < before.descriptors + 200, "all are closed"
    )
    assert serving(server.pid) == process, "it did not have to be replaced"
    assert server.request("GET", "vmm.ping").status == 200


def test_thousands_of_requests_on_one_connection(server):
    count = 4000
    before = Usage.of_server(server)
    with connect(server) as client, ThreadPoolExecutor(1) as sender:
        sent = sender.submit(client.sendall, head() * (count - 1) + head(connection="close"))
        assert server.request("GET", "vmm.ping").status == 200
        assert read_to_end(client).count(b"HTTP/1.1 200 ") == count
        sent.result()
    assert Usage.of_server(server).memory - before.memory < 16 * MIB


def _pour(server, start, piece):
    """Send a body of a gigabyte, as far as the server takes it; return the status."""
    sent = 0
    with connect(server) as client:
        client.sendall(start)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1 << 30:
                client.sendall(piece)
                sent += len(piece)
        assert sent < 16 * MAX_BODY, "it went on reading"
        return status(client)


@pytest.mark.parametrize("target", ["/api/v1/vm.create", "/api/v1/vm.boot", "/nowhere"])
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_body_of_a_gigabyte(chunked, target, server):
    piece = b" " * MIB
    if chunked:
        start = head("PUT", target, transfer_encoding="chunked")
        piece = b"%x\r\n%b\r\n" % (len(piece), piece)
    else:
        start = head("PUT", target, content_length=1 << 30)
    before = Usage.of_server(server)
    expected = 404 if target == "/nowhere" else 413
    with ThreadPoolExecutor(8) as pool:
        pours = [pool.submit(_pour, server, start, piece) for _ in range(24)]
        assert server.request("GET", "vmm.ping").status == 200
        assert {pour.result() for pour in pours} == {expected}
    assert Usage.of_server(server).memory - before.memory < 96 * MIB
    assert server.request("GET", "vmm.ping").status == 200


def test_large_documents_at_once(server):
    text = b'{"payload":{"kernel":"/k","cmdline":"%b"}}'
    documents = {
        text % (b"x" * (MAX_BODY - len(text) + 2)): 400,
        b"[" + b"[]," * (MAX_BODY // 3 - 1) + b"0]": 413,
        b"[" * MAX_BODY: 413,
        b'{"a":' * (MAX_BODY // 5): 413,
        b"[" + b"9" * (MAX_BODY - 2) + b"]": 400,
    }
    before = Usage.of_server(server)
    for document, expected in documents.items():
        with ThreadPoolExecutor(16) as pool:
            put = [pool.submit(server.request, "PUT", "vm.create", document) for _ in range(16)]
            assert server.request("GET", "vmm.ping").status == 200
            assert {answer.result().status for answer in put} == {expected}
    assert Usage.of_server(server).memory - before.memory < 128 * MIB
