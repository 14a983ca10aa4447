# SPDX-License-Identifier: Apache-2.0
"""Sockets between host and guest: who reaches whom, how bytes flow and how they end."""

import contextlib
import os
import socket

import pytest

from tests.support.virtio_driver import wait_until
from tests.support.vsock_guest import (
    BOTH,
    CREDIT,
    Op,
    VsockGuest,
    VsockVm,
    read_exactly,
)

pytestmark = pytest.mark.kvm

RECEIVE, SEND = 1, 2
HOST_PORTS = range(1 << 30, 1 << 31)


@pytest.fixture
def machine(tmp_path):
    with VsockVm(tmp_path / "v") as machine:
        yield machine


@pytest.fixture
def guest(machine):
    return VsockGuest(machine)


def assert_ended(peer):
    assert peer.recv(1) == b""


def assert_gone(peer):
    """As a reset, when something that the peer sent was not read."""
    with contextlib.suppress(ConnectionResetError):
        assert_ended(peer)


# -- how a connection comes about ------------------------------------------------


def test_the_guest_learns_its_cid(machine, guest):
    assert guest.driver.config(0, 4) == machine.cid
    assert guest.driver.config(4, 4) == 0


def test_a_client_of_the_host_reaches_a_port_of_the_guest(machine, guest):
    with machine.client(b"CONNECT 1234\n") as client:
        ports = guest.accept(client)
        assert ports[0] == 1234
        assert ports[1] in HOST_PORTS
        client.sendall(b"from the host")
        assert guest.read(ports, 13) == b"from the host"
        guest.send(Op.RW, ports, b"from the guest")
        assert read_exactly(client, 14) == b"from the guest"
        assert machine.counter("connections") == machine.counter("connections_total") == 1
    assert guest.expect(Op.SHUTDOWN, ports).flags == BOTH
    guest.send(Op.RST, ports)
    wait_until(lambda: machine.counter("connections") == 0)
    assert machine.counter("refused") == machine.counter("errors") == 0


@pytest.mark.parametrize(
    "line", [b"CONNECT 4294967295\n", b"connect 4294967295 \n", b"Connect 04294967295\r\n"]
)
def test_greetings_that_are_understood(machine, guest, line):
    with machine.client(line) as client:
        assert guest.accept(client)[0] == 0xFFFFFFFF


def test_a_greeting_may_come_in_pieces_with_data_behind_it(machine, guest):
    with machine.client() as client:
        for byte in b"CONNECT 77":
            client.sendall(bytes([byte]))
        client.sendall(b"\nwhat follows")
        ports = guest.accept(client)
        assert guest.read(ports, 12) == b"what follows"


def test_a_client_may_shut_down_at_once_and_still_be_answered(machine, guest):
    with machine.client(b"CONNECT 7\nask") as client:
        client.shutdown(socket.SHUT_WR)
        ports = guest.accept(client)
        assert guest.read(ports, 3) == b"ask"
        assert guest.expect(Op.SHUTDOWN, ports).flags == SEND
        guest.send(Op.RW, ports, b"answer")
        guest.send(Op.SHUTDOWN, ports, flags=BOTH)
        guest.expect(Op.RST, ports)
        assert read_exactly(client, 7) == b"answer"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT x\n",
        b"CONNECT -1\n",
        b"CONNECT 1 2\n",
        b"CONNECT 4294967296\n",
        b"CONNECT 99999999999999999999\n",
        b"CONNECTED 1\n",
        b"GET / HTTP/1.1\r\n",
        bytes(range(128, 256)),
        b"CONNECT 1" + b" " * 23 + b"\n",
        b"\0" * 100000,
    ],
)
def test_greetings_that_are_refused(machine, guest, line):
    with machine.client() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(line)
        assert_gone(client)
    wait_until(lambda: machine.counter("connections") == 0)
    assert machine.counter("refused") == 1
    assert guest.poll() is None


def test_a_client_that_leaves_before_its_line_is_forgotten(machine, guest):
    machine.client(b"CONNECT 1").close()
    wait_until(lambda: machine.counter("refused") == 1)
    wait_until(lambda: machine.counter("connections") == 0)
    assert guest.poll() is None


def test_a_silent_client_is_refused_in_time(machine, guest):
    with machine.client(b"CONNECT") as client, machine.client(b"CONNECT 5\n") as other:
        ports = guest.accept(other)
        assert_gone(client)
        other.sendall(b"still here")
        assert guest.read(ports, 10) == b"still here"
    assert machine.counter("refused") == 1


def test_a_guest_that_does_not_answer_is_given_up(machine, guest):
    with machine.client(b"CONNECT 5\n") as client:
        request = guest.expect(Op.REQUEST)
        assert_ended(client)
    guest.expect(Op.RST, (request.dst_port, request.src_port))
    assert machine.counter("refused") == 1


def test_a_guest_refuses(machine, guest):
    with machine.client(b"CONNECT 5\n") as client:
        request = guest.expect(Op.REQUEST)
        guest.send(Op.RST, (request.dst_port, request.src_port))
        assert_ended(client)
    assert machine.counter("refused") == 1
    assert machine.counter("connections") == 0


def test_a_client_that_leaves_while_the_guest_thinks(machine, guest):
    client = machine.client(b"CONNECT 5\n")
    request = guest.expect(Op.REQUEST)
    client.close()
    guest.expect(Op.RST, (request.dst_port, request.src_port))


def test_the_guest_reaches_a_server_of_the_host(machine, guest):
    with machine.server(9000) as server:
        ports = (1000, 9000)
        with guest.connect(server, ports) as peer:
            guest.send(Op.RW, ports, b"hello")
            assert read_exactly(peer, 5) == b"hello"
            peer.sendall(b"there")
            assert guest.read(ports, 5) == b"there"
            guest.send(Op.SHUTDOWN, ports, flags=BOTH)
            guest.expect(Op.RST, ports)
            assert_ended(peer)
    assert machine.counter("connections") == 0


def test_servers_that_are_not_there(machine, guest):
    machine.server(9001).close()  # its socket stays
    (machine.path.parent / f"{machine.path.name}_9002").write_text("no socket")
    for port in (9000, 9001, 9002):
        guest.send(Op.REQUEST, (1000, port))
        guest.expect(Op.RST, (1000, port))
    assert machine.counter("refused") == 3
    assert machine.counter("errors") == 0


def test_a_busy_server_is_waited_for(machine, guest):
    with machine.server(9000, backlog=0) as server, guest.connect(server, (1, 9000)):
        guest.send(Op.REQUEST, (2, 9000))
        guest.expect(Op.RESPONSE, (2, 9000))  # its place in the backlog
        guest.send(Op.REQUEST, (3, 9000))
        guest.send(Op.RW, (1, 9000), b"meanwhile")
        assert guest.poll() is None
        first, _ = server.accept()
        guest.expect(Op.RESPONSE, (3, 9000))
        first.close()
        guest.send(Op.REQUEST, (4, 9000))
        guest.expect(Op.SHUTDOWN, (2, 9000))
        guest.send(Op.RST, (2, 9000))
        guest.expect(Op.RST, (4, 9000))  # after two seconds
    assert machine.counter("refused") == 1


# -- how it ends -----------------------------------------------------------------


def test_the_host_half_closes(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert guest.read(ports, 9) == b"all of it"
        assert guest.expect(Op.SHUTDOWN, ports).flags == SEND
        guest.send(Op.RW, ports, b"and back")
        assert read_exactly(client, 8) == b"and back"
        client.close()
        assert guest.expect(Op.SHUTDOWN, ports).flags == BOTH


def test_the_guest_half_closes(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(Op.RW, ports, b"all of it")
        guest.send(Op.SHUTDOWN, ports, flags=SEND)
        assert read_exactly(client, 10) == b"all of it"
        client.sendall(b"and back")
        assert guest.read(ports, 8) == b"and back"
        client.shutdown(socket.SHUT_WR)
        assert guest.expect(Op.SHUTDOWN, ports).flags == BOTH
        guest.send(Op.RST, ports)
    wait_until(lambda: machine.counter("connections") == 0)


def test_the_guest_stops_receiving(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(Op.SHUTDOWN, ports, flags=RECEIVE)

        def refused():
            try:
                client.send(b"x")
            except BrokenPipeError:
                return True
            return False

        wait_until(refused)
        guest.send(Op.RW, ports, b"more")
        assert read_exactly(client, 4) == b"more"
        guest.send(Op.SHUTDOWN, ports, flags=SEND)
        guest.expect(Op.RST, ports)
        assert_gone(client)


def test_what_the_guest_sent_arrives_after_its_end(machine, guest):
    data = os.urandom(CREDIT)
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        for start in range(0, CREDIT, 65536):
            guest.send(Op.RW, ports, data[start : start + 65536])
        guest.send(Op.SHUTDOWN, ports, flags=BOTH)
        assert read_exactly(client, CREDIT + 1) == data
        guest.expect(Op.RST, ports)


def test_what_the_host_sent_arrives_before_its_end(machine, guest):
    data = os.urandom(100000)
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        client.sendall(data)
    assert guest.read(ports, len(data)) == data
    assert guest.expect(Op.SHUTDOWN, ports).flags == BOTH


def test_a_guest_that_does_not_confirm_the_end_is_reset(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
    guest.expect(Op.SHUTDOWN, ports)
    guest.send(Op.RW, ports, b"into nowhere")
    guest.expect(Op.RST, ports)
    assert machine.counter("connections") == machine.counter("refused") == 0


def test_a_reset_closes_at_once(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(Op.RST, ports)
        assert_ended(client)
    assert guest.poll() is None


def test_a_peer_that_stops_listening(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        client.shutdown(socket.SHUT_RD)
        guest.send(Op.RW, ports, b"unheard")
        assert guest.expect(Op.SHUTDOWN, ports).flags == RECEIVE
        client.sendall(b"not unsaid")
        assert guest.read(ports, 10) == b"not unsaid"


# -- credit ----------------------------------------------------------------------


def test_the_guests_credit_is_honoured(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        request = guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports, buf_alloc=1000)
        read_exactly(client, len(f"OK {ports[1]}\n"))
        client.sendall(bytes(3000))
        assert guest.read(ports, 1000) == bytes(1000)
        guest.expect(Op.CREDIT_REQUEST, ports)
        guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=1000)
        assert guest.poll() is None
        guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=1000, fwd_cnt=600)
        assert guest.read(ports, 600) == bytes(600)
        guest.expect(Op.CREDIT_REQUEST, ports)
        guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=5000, fwd_cnt=600)
        assert guest.read(ports, 1400) == bytes(1400)


def test_the_host_holds_the_guest_back_and_lets_it_go_on(machine, guest):
    data = os.urandom(1 << 20)
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        sent = told = 0
        received = b""
        while len(received) < len(data):
            while sent < len(data) and sent + 32768 - told <= CREDIT:
                guest.send(Op.RW, ports, data[sent : sent + 32768])
                sent += 32768
            while (packet := guest.poll()) is not None:
                assert (packet.op, packet.buf_alloc) == (Op.CREDIT_UPDATE, CREDIT)
                told = packet.fwd_cnt
            if len(received) < sent:
                received += client.recv(65536)
            else:
                told = guest.expect(Op.CREDIT_UPDATE, ports).fwd_cnt
        assert received == data


def test_credit_is_told_when_asked_for(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(Op.RW, ports, bytes(100))
        guest.send(Op.CREDIT_REQUEST, ports)
        packet = guest.expect(Op.CREDIT_UPDATE, ports)
        assert (packet.buf_alloc, packet.fwd_cnt) == (CREDIT, 100)


# -- many at once ----------------------------------------------------------------


def test_two_hundred_echoes(machine, guest):
    clients = {}
    try:
        for _ in range(200):
            client = machine.client(b"CONNECT 7\n")
            clients[guest.accept(client)] = client
        for ports, client in clients.items():
            client.sendall(b"%d" % ports[1] * 1000)
        left = 200 * 10000
        while left:
            packet = guest.receive()
            assert packet.op in (Op.RW, Op.CREDIT_UPDATE)
            if packet.op == Op.RW:
                left -= packet.len
                guest.send(Op.RW, (7, packet.src_port), packet.payload)
        for ports, client in clients.items():
            assert read_exactly(client, 10000) == b"%d" % ports[1] * 1000
        assert machine.counter("connections") == 200
        assert machine.counter("rx_bytes") == machine.counter("tx_bytes") == 200 * 10000
    finally:
        for client in clients.values():
            client.close()


def test_connections_take_turns(machine):
    guest = VsockGuest(machine, buffers=2)
    with machine.client(b"CONNECT 1\n") as one, machine.client(b"CONNECT 2\n") as two:
        guest.accept(one)
        guest.accept(two)
        one.sendall(bytes(200000))
        two.sendall(bytes(200000))
        order = [guest.expect(Op.RW).dst_port for _ in range(40)]
    assert 10 <= order[4:].count(1) <= 26


def test_a_peer_that_does_not_read_holds_up_nobody_else(machine, guest):
    with machine.client(b"CONNECT 1\n") as deaf, machine.client(b"CONNECT 2\n") as other:
        ports = guest.accept(deaf)
        others = guest.accept(other)
        for _ in range(4):
            guest.send(Op.RW, ports, bytes(65536))
        guest.send(Op.RW, others, b"through")
        assert read_exactly(other, 7) == b"through"


def test_large_receive_buffers_and_long_chains(machine):
    guest = VsockGuest(machine, buffers=8, buffer_size=65536, event_idx=False)
    data = os.urandom(500000)
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        client.settimeout(20)
        client.sendall(data[:200000])
        received = guest.read(ports, 200000)
        client.sendall(data[200000:400000])
        received += guest.read(ports, 200000)
        assert received == data[:400000]
