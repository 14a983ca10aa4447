# SPDX-License-Identifier: Apache-2.0
"""Guests and clients that a vsock device has to survive."""

import contextlib
import os
import random
import resource
import socket

import pytest

from tests.support.virtio_driver import NEEDS_RESET, wait_until
from tests.support.vsock_guest import CREDIT, Op, Packet, VsockGuest, VsockVm, read_exactly

pytestmark = pytest.mark.kvm

CONNECTIONS = 1023
RESETS = 1024


@pytest.fixture
def machine(tmp_path):
    with VsockVm(tmp_path / "v") as machine:
        yield machine


@pytest.fixture
def guest(machine):
    return VsockGuest(machine)


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
def test_packets_of_and_for_others_are_dropped(machine, guest, packet):
    guest.send_packet(packet)
    assert_works(machine, guest)
    assert machine.counter("errors") == 1


@pytest.mark.parametrize("size", [1, 20, 43])
def test_packets_shorter_than_a_header_are_dropped(machine, guest, size):
    guest.tx.add_readable(bytes(size))
    guest.driver.kick(1)
    assert_works(machine, guest)
    assert machine.counter("errors") == 1


@pytest.mark.parametrize("op", [0, Op.RESPONSE, Op.SHUTDOWN, Op.RW, Op.CREDIT_UPDATE, 8, 0xFFFF])
def test_packets_for_no_connection_are_reset(machine, guest, op):
    guest.send(op, (5, 6), b"payload")
    guest.expect(Op.RST, (5, 6))
    assert_works(machine, guest)


def test_a_reset_for_no_connection_is_not_answered(machine, guest):
    guest.send(Op.RST, (5, 6))
    guest.send(Op.RST, (5, 6), type=7)
    assert_works(machine, guest)


@pytest.mark.parametrize("kind", [0, 2, 3, 0xFFFF])
def test_other_types_are_reset_in_kind(machine, guest, kind):
    with machine.server(6):
        guest.send(Op.REQUEST, (5, 6), type=kind)
        assert guest.expect(Op.RST, (5, 6)).type == kind
    assert_works(machine, guest)


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
def test_what_an_established_connection_must_not_get_resets_it(machine, guest, op, fields):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(op, ports, **fields)
        guest.expect(Op.RST, ports)
        assert client.recv(1) == b""
    assert_works(machine, guest)
    assert machine.counter("errors") == 1


@pytest.mark.parametrize("op", [0, Op.REQUEST, Op.SHUTDOWN, Op.RW])
def test_what_a_requested_connection_must_not_get_resets_it(machine, guest, op):
    with machine.client(b"CONNECT 1\n") as client:
        request = guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        guest.send(op, ports)
        guest.expect(Op.RST, ports)
        assert client.recv(1) == b""
    assert_works(machine, guest)


def test_a_payload_longer_than_the_header_says_is_cut(machine, guest):
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        guest.send(Op.RW, ports, b"12345", len=3)
        guest.send(Op.RW, ports, b"67890", len=0)
        guest.send(Op.RW, ports, b"4")
        assert read_exactly(client, 4) == b"1234"


# -- credit that makes no sense ------------------------------------------------------


def test_a_guest_that_ignores_its_credit_is_reset(machine):
    guest = VsockGuest(machine, buffers=1)
    with machine.client(b"CONNECT 1\n") as client:
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        for _ in range(CREDIT // 65536):
            guest.send(Op.RW, ports, bytes(65536))
        guest.send(Op.RW, ports, b"!")
        wait_until(lambda: machine.counter("connections") == 0)
        guest.give_buffers(10)
        guest.expect(Op.RST, ports)
        del client
    assert machine.counter("errors") == 1
    assert_works(machine, guest)


@pytest.mark.parametrize(
    ("buf_alloc", "fwd_cnt"), [(0, 0), (0, 0xFFFFFFFF), (100, 200), (100, 0x80000000)]
)
def test_credit_that_makes_no_sense_is_none(machine, guest, buf_alloc, fwd_cnt):
    with machine.client(b"CONNECT 1\n") as client:
        request = guest.expect(Op.REQUEST)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports, buf_alloc=buf_alloc, fwd_cnt=fwd_cnt)
        client.sendall(b"held back")
        guest.expect(Op.CREDIT_REQUEST, ports)
        assert_works(machine, guest)
        guest.send(Op.CREDIT_UPDATE, ports)
        assert read_exactly(client, 3) == b"OK "
        assert guest.read(ports, 9) == b"held back"


def test_a_flood_of_credit_requests_is_answered_in_few(machine):
    guest = VsockGuest(machine, buffers=1)
    with machine.client(b"CONNECT 1\n"):
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        for _ in range(2000):
            guest.send(Op.CREDIT_REQUEST, ports)
        wait_until(lambda: guest.tx.used_index() == 2001)
        guest.give_buffers(10)
        guest.expect(Op.CREDIT_UPDATE, ports)
        assert_works(machine, guest)


# -- buffers ---------------------------------------------------------------------------


def test_resets_that_nobody_takes_hold_the_guest_up(machine):
    guest = VsockGuest(machine, buffers=0)
    for taken in [*range(256, RESETS + 1, 256), RESETS]:
        for _ in range(256):
            guest.tx.add_readable(Packet(src_cid=guest.cid, dst_port=6, op=Op.RW).header())
        guest.driver.kick(1)
        wait_until(lambda taken=taken: guest.tx.used_index() == taken)
        while guest.tx.take_used() is not None:
            pass
    guest.give_buffers(256)
    for _ in range(RESETS + 256):
        guest.expect(Op.RST)
    wait_until(lambda: guest.tx.used_index() == RESETS + 256)
    while guest.tx.take_used() is not None:
        pass
    assert_works(machine, guest)


@pytest.mark.parametrize("size", [1, 43, 44])
def test_receive_buffers_without_room_fail_the_device(machine, size):
    guest = VsockGuest(machine, buffers=0)
    guest.rx.add_writable(size)
    guest.driver.kick(0)
    guest.send(Op.RW, (5, 6))
    wait_until(lambda: guest.driver.status & NEEDS_RESET != 0)
    guest = VsockGuest(machine)
    assert_works(machine, guest)


def test_receive_buffers_of_the_least_size(machine):
    guest = VsockGuest(machine, buffers=0)
    for _ in range(200):
        guest.rx.add_writable(45)
    guest.driver.kick(0)
    with machine.client(b"CONNECT 1\n") as client:
        request = guest.receive(refill=False)
        ports = (1, request.src_port)
        guest.send(Op.RESPONSE, ports)
        client.sendall(b"byte by byte")
        data = b"".join(guest.receive(refill=False).payload for _ in range(12))
        assert data == b"byte by byte"


def test_random_packets(machine, guest):
    numbers = random.Random(1)
    with machine.server(6) as server, contextlib.ExitStack() as stack:
        server.settimeout(0)
        for _ in range(3000):
            guest.send(
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
            while guest.poll() is not None:
                pass
    guest = VsockGuest(machine)
    assert_works(machine, guest)


# -- floods ------------------------------------------------------------------------------


def test_a_flood_of_clients_meets_a_limit(machine, guest, descriptors):
    del descriptors
    guest.give_buffers(100)
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            guest.accept(stack.enter_context(machine.client(b"CONNECT 1\n")))
        late = [stack.enter_context(machine.client(b"CONNECT 1\n")) for _ in range(300)]
        for client in late:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert machine.counter("refused") == 300
        assert machine.counter("connections") == CONNECTIONS
        with machine.server(6):
            guest.send(Op.REQUEST, (5, 6))
            guest.expect(Op.RST, (5, 6))

    def closed():
        while guest.poll() is not None:
            pass
        return machine.counter("connections") == 0

    wait_until(closed)
    assert_works(machine, guest)


def test_a_flood_of_the_guest_meets_the_same_limit(machine, guest, descriptors):
    del descriptors
    with machine.server(6, backlog=2048):
        accepted = 0
        for port in range(1200):
            guest.send(Op.REQUEST, (port, 6))
            packet = guest.receive()
            accepted += packet.op == Op.RESPONSE
        assert accepted == CONNECTIONS
        assert machine.counter("refused") == 1200 - CONNECTIONS
        guest.driver.reset()
    assert machine.counter("connections") == 0
    assert_works(machine, VsockGuest(machine))


def test_clients_wait_while_there_are_no_descriptors(machine, guest):
    clients = []

    def refused():
        event = machine.vm.next_event()
        return event is not None and "cannot accept a client" in event.text

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        clients.append(socket.socket(socket.AF_UNIX))
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients[0].fileno() + 1, hard))
        clients[0].connect(str(machine.path))
        clients[0].sendall(b"CONNECT 8\n")
        wait_until(refused)
        assert guest.poll() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ports = guest.accept(clients[0])
    assert ports[0] == 8
    clients[0].close()
