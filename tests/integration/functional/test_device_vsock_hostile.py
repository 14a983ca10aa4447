# SPDX-License-Identifier: Apache-2.0
"""Guests and clients that a vsock device has to survive."""

import contextlib
import os
import random
import resource
import socket

import pytest

from tests.support.vsock_guest import CREDIT, Op, Packet, VsockGuest, read_exactly
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm

CONNECTIONS = 1023
RESETS = 1024


@pytest.fixture
def descriptors():
    """Allow this process enough of them for both ends of many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_works(machine, guest):
    """Have another connection carry data."""
    with machine.client(b"CONNECT 99\n") as client:
        ports = guest.accept(client)
        client.sendall(b"ping")
        assert guest.read(ports, 4) == b"ping"
        guest.send(Op.RW, ports, b"pong")
        assert read_exactly(client, 4) == b"pong"
        guest.send(Op.RST, ports)
        assert client.recv(1) == b""


# -- packets that make no sense ----------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        Packet(src_cid=41, op=Op.REQUEST),
        Packet(src_cid=42 + (1 << 32), op=Op.REQUEST),
        Packet(src_cid=42, dst_cid=0, op=Op.REQUEST),
        Packet(src_cid=42, dst_cid=43, op=Op.RW),
        Packet(),
    ],
)
def test_packets_of_and_for_others_are_dropped(vsock, vsock_guest, packet):
    vsock_guest.send_packet(packet)
    assert_works(vsock, vsock_guest)
    assert vsock.counter("errors") == 1


@pytest.mark.parametrize("size", [1, 20, 43])
def test_packets_shorter_than_a_header_are_dropped(vsock, vsock_guest, size):
    vsock_guest.tx.add_readable(bytes(size))
    vsock_guest.tx.kick()
    assert_works(vsock, vsock_guest)
    assert vsock.counter("errors") == 1


@pytest.mark.parametrize("op", [0, Op.RESPONSE, Op.SHUTDOWN, Op.RW, Op.CREDIT_UPDATE, 8, 0xFFFF])
def test_packets_for_no_connection_are_reset(vsock, vsock_guest, op):
    vsock_guest.send(op, (5, 6), b"payload")
    vsock_guest.expect(Op.RST, (5, 6))
    assert_works(vsock, vsock_guest)


def test_a_reset_for_no_connection_is_not_answered(vsock, vsock_guest):
    vsock_guest.send(Op.RST, (5, 6))
    vsock_guest.send(Op.RST, (5, 6), type=7)
    assert_works(vsock, vsock_guest)


@pytest.mark.parametrize("kind", [0, 2, 3, 0xFFFF])
def test_other_types_are_reset_in_kind(vsock, vsock_guest, kind):
    with vsock.server(6):
        vsock_guest.send(Op.REQUEST, (5, 6), type=kind)
        assert vsock_guest.expect(Op.RST, (5, 6)).type == kind
    assert_works(vsock, vsock_guest)


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        (0, {}),
        (Op.REQUEST, {}),
        (Op.RESPONSE, {}),
        (8, {}),
        (Op.RW, {"len": 1}),
        (Op.RW, {"len": 0xFFFFFFFF}),
        (Op.SHUTDOWN, {"len": 1}),
    ],
)
def test_what_an_established_connection_must_not_get_resets_it(vsock, vsock_guest, op, fields):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(op, ports, **fields)
        vsock_guest.expect(Op.RST, ports)
        assert client.recv(1) == b""
    assert_works(vsock, vsock_guest)
    assert vsock.counter("errors") == 1


@pytest.mark.parametrize("op", [0, Op.REQUEST, Op.SHUTDOWN, Op.RW])
def test_what_a_requested_connection_must_not_get_resets_it(vsock, vsock_guest, op):
    with vsock.client(b"CONNECT 1\n") as client:
        request = vsock_guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        vsock_guest.send(op, ports)
        vsock_guest.expect(Op.RST, ports)
        assert client.recv(1) == b""
    assert_works(vsock, vsock_guest)


def test_a_payload_longer_than_the_header_says_is_cut(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock_guest.send(Op.RW, ports, b"12345", len=3)
        vsock_guest.send(Op.RW, ports, b"67890", len=0)
        vsock_guest.send(Op.RW, ports, b"4")
        assert read_exactly(client, 4) == b"1234"


# -- credit that makes no sense ------------------------------------------------------


def test_a_guest_that_ignores_its_credit_is_reset(vsock):
    guest = VsockGuest(vsock, buffers=1)
    with vsock.client(b"CONNECT 1\n") as client:
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        for _ in range(CREDIT // 65536):
            guest.send(Op.RW, ports, bytes(65536))
        guest.send(Op.RW, ports, b"!")
        wait_until(lambda: vsock.counter("connections") == 0)
        guest.give_buffers(10)
        guest.expect(Op.RST, ports)
        del client
    assert vsock.counter("errors") == 1
    assert_works(vsock, guest)


@pytest.mark.parametrize(
    ("buf_alloc", "fwd_cnt"), [(0, 0), (0, 0xFFFFFFFF), (100, 200), (100, 0x80000000)]
)
def test_credit_that_makes_no_sense_is_none(vsock, vsock_guest, buf_alloc, fwd_cnt):
    with vsock.client(b"CONNECT 1\n") as client:
        request = vsock_guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        vsock_guest.send(Op.RESPONSE, ports, buf_alloc=buf_alloc, fwd_cnt=fwd_cnt)
        client.sendall(b"held back")
        vsock_guest.expect(Op.CREDIT_REQUEST, ports)
        assert_works(vsock, vsock_guest)
        vsock_guest.send(Op.CREDIT_UPDATE, ports)
        assert read_exactly(client, 3) == b"OK "
        assert vsock_guest.read(ports, 9) == b"held back"


def test_a_flood_of_credit_requests_is_answered_in_few(vsock):
    guest = VsockGuest(vsock, buffers=1)
    with vsock.client(b"CONNECT 1\n"):
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        for _ in range(2000):
            guest.send(Op.CREDIT_REQUEST, ports)
        wait_until(lambda: guest.tx.used_index() == 2001)
        guest.give_buffers(10)
        guest.expect(Op.CREDIT_UPDATE, ports)
        assert_works(vsock, guest)


# -- buffers ---------------------------------------------------------------------------


def test_resets_that_nobody_takes_hold_the_guest_up(vsock):
    guest = VsockGuest(vsock, buffers=0)
    for taken in [*range(256, RESETS + 1, 256), RESETS]:
        for _ in range(256):
            guest.tx.add_readable(Packet(src_cid=guest.cid, dst_port=6, op=Op.RW).header())
        guest.tx.kick()
        wait_until(lambda taken=taken: guest.tx.used_index() == taken)
        while guest.tx.take_used() is not None:
            pass
    guest.give_buffers(256)
    for _ in range(RESETS + 256):
        guest.expect(Op.RST)
    wait_until(lambda: guest.tx.used_index() == RESETS + 256)
    while guest.tx.take_used() is not None:
        pass
    assert_works(vsock, guest)


@pytest.mark.parametrize("size", [1, 43, 44])
def test_receive_buffers_without_room_fail_the_device(vsock, size):
    guest = VsockGuest(vsock, buffers=0)
    guest.rx.add_writable(size)
    guest.rx.kick()
    guest.send(Op.RW, (5, 6))
    wait_until(lambda: guest.driver.needs_reset)
    guest = VsockGuest(vsock)
    assert_works(vsock, guest)


def test_receive_buffers_of_the_least_size(vsock):
    guest = VsockGuest(vsock, buffers=0)
    for _ in range(200):
        guest.rx.add_writable(45)
    guest.rx.kick()
    with vsock.client(b"CONNECT 1\n") as client:
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        client.sendall(b"byte by byte")
        data = b"".join(guest.receive(refill=False).payload for _ in range(12))
        assert data == b"byte by byte"


def test_random_packets(vsock, vsock_guest):
    numbers = random.Random(1)
    with vsock.server(6) as server, contextlib.ExitStack() as stack:
        server.settimeout(0)
        for _ in range(3000):
            vsock_guest.send(
                numbers.randrange(9),
                (numbers.randrange(4), numbers.choice([6, 7, 1 << 30, (1 << 30) + 1])),
                os.urandom(numbers.choice([0, 1, 100, 5000])),
                flags=numbers.randrange(4),
                buf_alloc=numbers.choice([0, 1000, 1 << 20, 0xFFFFFFFF]),
                fwd_cnt=numbers.choice([0, 500, 0x80000000]),
            )
            with contextlib.suppress(BlockingIOError):
                peer = stack.enter_context(server.accept()[0])
                peer.settimeout(0)
                with contextlib.suppress(OSError):
                    peer.send(bytes(2000))
            while vsock_guest.poll() is not None:
                pass
    vsock_guest = VsockGuest(vsock)
    assert_works(vsock, vsock_guest)


# -- floods ------------------------------------------------------------------------------


def test_a_flood_of_clients_meets_a_limit(vsock, vsock_guest, descriptors):
    del descriptors
    vsock_guest.give_buffers(100)
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            vsock_guest.accept(stack.enter_context(vsock.client(b"CONNECT 1\n")))
        late = [stack.enter_context(vsock.client(b"CONNECT 1\n")) for _ in range(300)]
        for client in late:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert vsock.counter("refused") == 300
        assert vsock.counter("connections") == CONNECTIONS
        with vsock.server(6):
            vsock_guest.send(Op.REQUEST, (5, 6))
            vsock_guest.expect(Op.RST, (5, 6))

    reset: set[int] = set()
    while len(reset) < CONNECTIONS:
        packet = vsock_guest.receive()
        if packet.op == Op.RST:
            assert packet.src_port not in reset
            reset.add(packet.src_port)
    assert vsock.counter("connections") == 0
    assert_works(vsock, vsock_guest)


def test_a_flood_of_the_guest_meets_the_same_limit(vsock, vsock_guest, descriptors):
    del descriptors
    with vsock.server(6, backlog=2048):
        accepted = 0
        for port in range(1200):
            vsock_guest.send(Op.REQUEST, (port, 6))
            packet = vsock_guest.receive()
            accepted += packet.op == Op.RESPONSE
        assert accepted == CONNECTIONS
        assert vsock.counter("refused") == 1200 - CONNECTIONS
        vsock_guest.driver.reset()
    assert vsock.counter("connections") == 0
    assert_works(vsock, VsockGuest(vsock))


def test_clients_wait_while_there_are_no_descriptors(vsock, vsock_guest):
    clients = []

    def refused():
        event = vsock.vm.next_event()
        return event is not None and "cannot accept a client" in event.text

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        clients.append(socket.socket(socket.AF_UNIX))
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients[0].fileno() + 1, hard))
        clients[0].connect(str(vsock.path))
        clients[0].sendall(b"CONNECT 8\n")
        wait_until(refused)
        assert vsock_guest.poll() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ports = vsock_guest.accept(clients[0])
    assert ports[0] == 8
    clients[0].close()
