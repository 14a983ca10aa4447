# SPDX-License-Identifier: Apache-2.0
"""Sockets between host and guest: who reaches whom, how bytes flow and how they end."""

import contextlib
import os
import socket

import pytest

from tests.support.vsock_guest import (
    BOTH,
    CREDIT,
    Op,
    VsockGuest,
    read_exactly,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm

RECEIVE, SEND = 1, 2
HOST_PORTS = range(1 << 30, 1 << 31)


def assert_ended(peer):
    assert peer.recv(1) == b""


def assert_gone(peer):
    """As a reset, when something that the peer sent was not read."""
    with contextlib.suppress(ConnectionResetError):
        assert_ended(peer)


# -- how a connection comes about ------------------------------------------------


def test_the_guest_learns_its_cid(vsock, vsock_guest):
    assert vsock_guest.driver.config.read(0, 4) == vsock.cid
    assert vsock_guest.driver.config.read(4, 4) == 0


def test_a_client_of_the_host_reaches_a_port_of_the_guest(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1234\n") as client:
        ports = vsock_guest.accept(client)
        assert ports[0] == 1234
        assert ports[1] in HOST_PORTS
        client.sendall(b"from the host")
        assert vsock_guest.read(ports, 13) == b"from the host"
        vsock_guest.send(Op.RW, ports, b"from the guest")
        assert read_exactly(client, 14) == b"from the guest"
        assert vsock.counter("connections") == vsock.counter("connections_total") == 1
    assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == BOTH
    vsock_guest.send(Op.RST, ports)
    wait_until(lambda: vsock.counter("connections") == 0)
    assert vsock.counter("refused") == vsock.counter("errors") == 0


@pytest.mark.parametrize(
    "line", [b"CONNECT 4294967295\n", b"connect 4294967295 \n", b"Connect 04294967295\r\n"]
)
def test_greetings_that_are_understood(vsock, vsock_guest, line):
    with vsock.client(line) as client:
        assert vsock_guest.accept(client)[0] == 0xFFFFFFFF


def test_a_greeting_may_come_in_pieces_with_data_behind_it(vsock, vsock_guest):
    with vsock.client() as client:
        for byte in b"CONNECT 77":
            client.sendall(bytes([byte]))
        client.sendall(b"\nwhat follows")
        ports = vsock_guest.accept(client)
        assert vsock_guest.read(ports, 12) == b"what follows"


def test_a_client_may_shut_down_at_once_and_still_be_answered(vsock, vsock_guest):
    with vsock.client(b"CONNECT 7\nask") as client:
        client.shutdown(socket.SHUT_WR)
        ports = vsock_guest.accept(client)
        assert vsock_guest.read(ports, 3) == b"ask"
        assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == SEND
        vsock_guest.send(Op.RW, ports, b"answer")
        vsock_guest.send(Op.SHUTDOWN, ports, flags=BOTH)
        vsock_guest.expect(Op.RST, ports)
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
def test_greetings_that_are_refused(vsock, vsock_guest, line):
    with vsock.client() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(line)
        assert_gone(client)
    wait_until(lambda: vsock.counter("connections") == 0)
    assert vsock.counter("refused") == 1
    assert vsock_guest.poll() is None


def test_a_client_that_leaves_before_its_line_is_forgotten(vsock, vsock_guest):
    vsock.client(b"CONNECT 1").close()
    wait_until(lambda: vsock.counter("refused") == 1)
    wait_until(lambda: vsock.counter("connections") == 0)
    assert vsock_guest.poll() is None


def test_a_silent_client_is_refused_in_time(vsock, vsock_guest):
    with vsock.client(b"CONNECT") as client, vsock.client(b"CONNECT 5\n") as other:
        ports = vsock_guest.accept(other)
        assert_gone(client)
        other.sendall(b"still here")
        assert vsock_guest.read(ports, 10) == b"still here"
    assert vsock.counter("refused") == 1


def test_a_guest_that_does_not_answer_is_given_up(vsock, vsock_guest):
    with vsock.client(b"CONNECT 5\n") as client:
        request = vsock_guest.expect(Op.REQUEST)
        assert_ended(client)
    vsock_guest.expect(Op.RST, (request.dst_port, request.src_port))
    assert vsock.counter("refused") == 1


def test_a_guest_refuses(vsock, vsock_guest):
    with vsock.client(b"CONNECT 5\n") as client:
        request = vsock_guest.expect(Op.REQUEST)
        vsock_guest.send(Op.RST, (request.dst_port, request.src_port))
        assert_ended(client)
    assert vsock.counter("refused") == 1
    assert vsock.counter("connections") == 0


def test_a_client_that_leaves_while_the_guest_thinks(vsock, vsock_guest):
    client = vsock.client(b"CONNECT 5\n")
    request = vsock_guest.expect(Op.REQUEST)
    client.close()
    vsock_guest.expect(Op.RST, (request.dst_port, request.src_port))


def test_the_guest_reaches_a_server_of_the_host(vsock, vsock_guest):
    with vsock.server(9000) as server:
        ports = (1000, 9000)
        with vsock_guest.connect(server, ports) as peer:
            vsock_guest.send(Op.RW, ports, b"hello")
            assert read_exactly(peer, 5) == b"hello"
            peer.sendall(b"there")
            assert vsock_guest.read(ports, 5) == b"there"
            vsock_guest.send(Op.SHUTDOWN, ports, flags=BOTH)
            vsock_guest.expect(Op.RST, ports)
            assert_ended(peer)
    assert vsock.counter("connections") == 0


def test_servers_that_are_not_there(vsock, vsock_guest):
    vsock.server(9001).close()  # its socket stays
    (vsock.path.parent / f"{vsock.path.name}_9002").write_text("no socket")
    for port in (9000, 9001, 9002):
        vsock_guest.send(Op.REQUEST, (1000, port))
        vsock_guest.expect(Op.RST, (1000, port))
    assert vsock.counter("refused") == 3
    assert vsock.counter("errors") == 0


def test_a_busy_server_is_waited_for(vsock, vsock_guest):
    with vsock.server(9000, backlog=0) as server, vsock_guest.connect(server, (1, 9000)):
        vsock_guest.send(Op.REQUEST, (2, 9000))
        vsock_guest.expect(Op.RESPONSE, (2, 9000))  # its place in the backlog
        vsock_guest.send(Op.REQUEST, (3, 9000))
        vsock_guest.send(Op.RW, (1, 9000), b"meanwhile")
        assert vsock_guest.poll() is None
        first, _ = server.accept()
        vsock_guest.expect(Op.RESPONSE, (3, 9000))
        first.close()
        vsock_guest.send(Op.REQUEST, (4, 9000))
        vsock_guest.expect(Op.SHUTDOWN, (2, 9000))
        vsock_guest.send(Op.RST, (2, 9000))
        vsock_guest.expect(Op.RST, (4, 9000))  # after two seconds
    assert vsock.counter("refused") == 1


# -- how it ends -----------------------------------------------------------------


def test_the_host_half_closes(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert vsock_guest.read(ports, 9) == b"all of it"
        assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == SEND
        vsock_guest.send(Op.RW, ports, b"and back")
        assert read_exactly(client, 8) == b"and back"
        client.close()
        assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == BOTH


def test_the_guest_half_closes(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(Op.RW, ports, b"all of it")
        vsock_guest.send(Op.SHUTDOWN, ports, flags=SEND)
        assert read_exactly(client, 10) == b"all of it"
        client.sendall(b"and back")
        assert vsock_guest.read(ports, 8) == b"and back"
        client.shutdown(socket.SHUT_WR)
        assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == BOTH
        vsock_guest.send(Op.RST, ports)
    wait_until(lambda: vsock.counter("connections") == 0)


def test_the_guest_stops_receiving(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(Op.SHUTDOWN, ports, flags=RECEIVE)

        def refused():
            try:
                client.send(b"x")
            except BrokenPipeError:
                return True
            return False

        wait_until(refused)
        vsock_guest.send(Op.RW, ports, b"more")
        assert read_exactly(client, 4) == b"more"
        vsock_guest.send(Op.SHUTDOWN, ports, flags=SEND)
        vsock_guest.expect(Op.RST, ports)
        assert_gone(client)


def test_what_the_guest_sent_arrives_after_its_end(vsock, vsock_guest):
    data = os.urandom(CREDIT)
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        for start in range(0, CREDIT, 65536):
            vsock_guest.send(Op.RW, ports, data[start : start + 65536])
        vsock_guest.send(Op.SHUTDOWN, ports, flags=BOTH)
        assert read_exactly(client, CREDIT + 1) == data
        vsock_guest.expect(Op.RST, ports)


def test_what_the_host_sent_arrives_before_its_end(vsock, vsock_guest):
    data = os.urandom(100000)
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        client.sendall(data)
    assert vsock_guest.read(ports, len(data)) == data
    assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == BOTH


def test_a_guest_that_does_not_confirm_the_end_is_reset(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
    vsock_guest.expect(Op.SHUTDOWN, ports)
    vsock_guest.send(Op.RW, ports, b"into nowhere")
    vsock_guest.expect(Op.RST, ports)
    assert vsock.counter("connections") == vsock.counter("refused") == 0


def test_a_reset_closes_at_once(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(Op.RST, ports)
        assert_ended(client)
    assert vsock_guest.poll() is None


def test_a_peer_that_stops_listening(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        client.shutdown(socket.SHUT_RD)
        vsock_guest.send(Op.RW, ports, b"unheard")
        assert vsock_guest.expect(Op.SHUTDOWN, ports).flags == RECEIVE
        client.sendall(b"not unsaid")
        assert vsock_guest.read(ports, 10) == b"not unsaid"


# -- credit ----------------------------------------------------------------------


def test_the_guests_credit_is_honoured(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        request = vsock_guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        vsock_guest.send(Op.RESPONSE, ports, buf_alloc=1000)
        read_exactly(client, len(f"OK {ports[1]}\n"))
        client.sendall(bytes(3000))
        assert vsock_guest.read(ports, 1000) == bytes(1000)
        vsock_guest.expect(Op.CREDIT_REQUEST, ports)
        vsock_guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=1000)
        assert vsock_guest.poll() is None
        vsock_guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=1000, fwd_cnt=600)
        assert vsock_guest.read(ports, 600) == bytes(600)
        vsock_guest.expect(Op.CREDIT_REQUEST, ports)
        vsock_guest.send(Op.CREDIT_UPDATE, ports, buf_alloc=5000, fwd_cnt=600)
        assert vsock_guest.read(ports, 1400) == bytes(1400)


def test_the_host_holds_the_guest_back_and_lets_it_go_on(vsock, vsock_guest):
    data = os.urandom(1 << 20)
    piece = 32768
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        sent = told = 0
        received = b""
        while len(received) < len(data):
            if sent < len(data) and sent + piece - told <= CREDIT:
                vsock_guest.send(Op.RW, ports, data[sent : sent + piece])
                sent += piece
            elif len(received) < sent:
                received += client.recv(65536)
            else:
                update = vsock_guest.expect(Op.CREDIT_UPDATE, ports)
                assert update.buf_alloc == CREDIT
                told = update.fwd_cnt
        assert received == data


def test_credit_is_told_when_asked_for(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(Op.RW, ports, bytes(100))
        vsock_guest.send(Op.CREDIT_REQUEST, ports)
        packet = vsock_guest.expect(Op.CREDIT_UPDATE, ports)
        assert (packet.buf_alloc, packet.fwd_cnt) == (CREDIT, 100)


# -- many at once ----------------------------------------------------------------


def test_two_hundred_echoes(vsock, vsock_guest):
    clients = {}
    try:
        for _ in range(200):
            client = vsock.client(b"CONNECT 7\n")
            clients[vsock_guest.accept(client)] = client
        for ports, client in clients.items():
            client.sendall(b"%d" % ports[1] * 1000)
        left = 200 * 10000
        while left:
            packet = vsock_guest.receive()
            assert packet.op in (Op.RW, Op.CREDIT_UPDATE)
            if packet.op == Op.RW:
                left -= packet.len
                vsock_guest.send(Op.RW, (7, packet.src_port), packet.payload)
        for ports, client in clients.items():
            assert read_exactly(client, 10000) == b"%d" % ports[1] * 1000
        assert vsock.counter("connections") == 200
        assert vsock.counter("rx_bytes") == 200 * 10000
        wait_until(lambda: vsock.counter("tx_bytes") == 200 * 10000)
    finally:
        for client in clients.values():
            client.close()


def test_connections_take_turns(vsock):
    guest = VsockGuest(vsock, buffers=2)
    with vsock.client(b"CONNECT 1\n") as one, vsock.client(b"CONNECT 2\n") as two:
        guest.accept(one)
        guest.accept(two)
        one.sendall(bytes(200000))
        two.sendall(bytes(200000))
        order = [guest.expect(Op.RW).dst_port for _ in range(40)]
    assert 10 <= order[4:].count(1) <= 26


def test_a_peer_that_does_not_read_holds_up_nobody_else(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as deaf, vsock.client(b"CONNECT 2\n") as other:
        ports = vsock_guest.accept(deaf)
        others = vsock_guest.accept(other)
        for _ in range(4):
            vsock_guest.send(Op.RW, ports, bytes(65536))
        vsock_guest.send(Op.RW, others, b"through")
        assert read_exactly(other, 7) == b"through"


def test_large_receive_buffers_and_long_chains(vsock):
    guest = VsockGuest(vsock, buffers=8, buffer_size=65536, event_idx=False)
    data = os.urandom(500000)
    with vsock.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        client.settimeout(20)
        client.sendall(data[:200000])
        received = guest.read(ports, 200000)
        client.sendall(data[200000:400000])
        received += guest.read(ports, 200000)
        assert received == data[:400000]
