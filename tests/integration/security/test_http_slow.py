# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, or stop, or read nothing: each costs a descriptor and nobody else."""

import contextlib
import socket
import threading

import pytest

from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer
from tests.support.hostile import Usage, connect, head, listening, read_to_end, status
from tests.support.processes import DEADLINE

THREADS = 4
MANY = 10 * THREADS
BODY = b'{"payload": {"kernel": "/boot/vmlinuz"}}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server with few threads whose patience is longer than the tests."""
    folder = tmp_path_factory.mktemp("run")
    arguments = ("--threads", THREADS, "--client-timeout", 600)
    with Peer(ipc_path(folder, "default")), ApiProcess(folder, *arguments) as api:
        yield api


def _assert_serves(server):
    for _ in range(3):
        assert server.request("GET", "vmm.ping").status == 200
        assert server.request("PUT", "vm.boot").status == 204


@pytest.mark.parametrize(
    "start",
    [
        b"G",
        head()[:-1],
        head("PUT", "/api/v1/vm.create", content_length=len(BODY)) + BODY[:-1],
        head() + head()[:-1],
        b"\r\n\r\n",
    ],
    ids=["one byte", "head", "body", "second request", "empty lines"],
)
def test_many_that_stop_within_a_request_hold_nobody_up(start, server):
    with listening(server, MANY) as clients:
        for client in clients:
            client.sendall(start)
        _assert_serves(server)


@pytest.mark.parametrize(
    "fields",
    [
        {"transfer_encoding": "chunked"},
        {"content_length": 1 << 20},
        {"content_length": 9, "expect": "100-continue"},
    ],
    ids=["chunked", "long", "expect"],
)
def test_many_that_stop_within_a_long_body_hold_up_no_short_request(fields, server):
    with listening(server, MANY) as clients:
        for client in clients:
            client.sendall(head("PUT", "/api/v1/vm.create", **fields))
        _assert_serves(server)


def test_what_trickles_in_is_answered_and_holds_nobody_up(server):
    request = head("PUT", "/api/v1/vm.create", content_length=len(BODY)) + BODY
    with listening(server, MANY) as clients:
        for index in range(len(request)):
            for client in clients:
                client.sendall(request[index : index + 1])
            if index % 50 == 0:
                _assert_serves(server)
        assert [status(client) for client in clients] == [204] * MANY


def test_many_that_read_no_answer_hold_nobody_up(server):
    with listening(server, MANY) as clients, contextlib.ExitStack() as stack:
        for client in clients:
            client.setblocking(False)
            # As many answers as the socket takes, and more requests behind them.
            stack.callback(client.setblocking, True)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    client.sendall(head() * 50)
        _assert_serves(server)


def test_one_that_reads_late_gets_every_answer(server):
    count = 1500
    with connect(server) as client:
        sender = threading.Thread(target=client.sendall, args=(head() * count,))
        sender.start()
        _assert_serves(server)
        answer = b""
        while answer.count(b"HTTP/1.1 200 ") < count or not answer.endswith(b"}"):
            answer += client.recv(1 << 16)
        sender.join(DEADLINE)
        assert answer.count(b"HTTP/1.1 ") == count


def test_half_closed_clients_are_answered_and_let_go(server):
    with connect(server) as client:
        client.sendall(head() + head("PUT", "/api/v1/vm.boot"))
        client.shutdown(socket.SHUT_WR)
        answer = read_to_end(client)
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert answer.count(b"HTTP/1.1 204 ") == 1
    for part, expected in (
        (b"", b""),
        (head()[:-1], b""),
        (head("PUT", "/api/v1/vm.create", content_length=9) + b"{", b"HTTP/1.1 400 "),
        (
            head("PUT", "/api/v1/vm.create", transfer_encoding="chunked") + b"5\r\n{",
            b"HTTP/1.1 400 ",
        ),
    ):
        with connect(server) as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client)[:13] == expected
    _assert_serves(server)


def test_one_that_hangs_up_at_any_point_costs_nothing_that_stays(server):
    _assert_serves(server)
    before = Usage.of_server(server)
    request = head("PUT", "/api/v1/vm.create", content_length=len(BODY)) + BODY
    for cut in range(1, len(request), 3):
        with connect(server) as client:
            client.sendall(request[:cut])
    _assert_serves(server)
    after = Usage.of_server(server)
    assert after.descriptors <= before.descriptors + 1
    assert "Traceback" not in server.read_log()


def test_a_client_that_takes_too_long_is_given_up(tmp_path):
    arguments = ("--threads", THREADS, "--client-timeout", 0.3)
    chunked = head("PUT", "/api/v1/vm.create", transfer_encoding="chunked")
    with (
        Peer(ipc_path(tmp_path, "default")),
        ApiProcess(tmp_path, *arguments) as server,
        listening(server, 3 * THREADS) as clients,
    ):
        for index, client in enumerate(clients):
            client.sendall((head()[:-1], BODY, chunked + b"5\r\n{")[index % 3])
        for index, client in enumerate(clients):
            assert read_to_end(client)[:13] == (b"", b"", b"HTTP/1.1 400 ")[index % 3]
        _assert_serves(server)
        assert "Traceback" not in server.read_log()
