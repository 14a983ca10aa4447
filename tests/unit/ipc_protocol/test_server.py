# SPDX-License-Identifier: Apache-2.0
"""The worker's end against peers of every kind, over real sockets."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from ipc_protocol import codec, connections, envelope
from ipc_protocol.client import Client
from ipc_protocol.envelope import Reply, Request
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import SIGNATURES, Operation, VmmPing
from ipc_protocol.server import Incoming, Server, causes_of, outcome
from ipc_protocol.version import PROTOCOL_VERSION
from tests.unit.ipc_protocol.strategies import PLAIN

WAIT_MS = 20_000
GOOD: dict[str, Any] = {
    "v": PROTOCOL_VERSION,
    "id": b"0123456789abcdef",
    "op": "vmm.ping",
    "deadline": 1 << 62,
    "context": {},
    "body": None,
}


class Peer:
    """A raw connection, which may say anything."""

    def __init__(self, path: Path, **options: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.socket.connect(f"ipc://{path}")

    def close(self) -> None:
        self.socket.close()
        self._context.term()

    def answer(self) -> Reply:
        """Wait for the next reply."""
        assert self.socket.poll(WAIT_MS)
        return envelope.decode_reply(self.socket.recv())

    def ask(self, message: dict[str, Any]) -> Reply:
        """Send a message and wait for the reply to it."""
        self.socket.send(msgpack.packb(message))
        while (reply := self.answer()).id != message["id"]:
            pass
        return reply

    def ping(self) -> None:
        """Check that the server still does its work."""
        reply = self.ask(GOOD | {"id": envelope.new_id()})
        assert codec.convert(reply.value, VmmPing)


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    peer = Peer(path)
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def lasting(
    tmp_path_factory: pytest.TempPathFactory, worker_class: Any
) -> Iterator[tuple[Any, Peer]]:
    """One worker, of much patience, and one peer for all examples of a property."""
    path = tmp_path_factory.mktemp("server") / "vm.ipc"
    with pytest.MonkeyPatch.context() as patch, worker_class(path) as worker:
        patch.setattr(connections, "OFFENCES", 1 << 30)
        peer = Peer(path)
        yield worker, peer
        peer.close()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a valid message that was damaged."""
    data = bytearray(
        msgpack.packb(GOOD | draw(st.dictionaries(st.sampled_from(sorted(GOOD)), PLAIN)))
    )
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))])


@given(st.lists(st.lists(st.binary(max_size=60) | mutated(), min_size=1, max_size=3), min_size=1))
def test_no_bytes_disturb_the_server(
    lasting: tuple[Any, Peer], messages: list[list[bytes]]
) -> None:
    _, peer = lasting
    for frames in messages:
        peer.socket.send_multipart(frames)
    peer.ping()


def test_what_has_no_id_is_dropped_and_counted(worker: Any, peer: Peer) -> None:
    for frames in ([b""], [b"\xc1"], [b"\x80"], [b"a", b"b"], [b"\x91" * 100_000]):
        peer.socket.send_multipart(frames)
    peer.ping()
    assert (worker.server.counters.dropped, worker.server.counters.refused) == (5, 0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v": PROTOCOL_VERSION + 1}, ErrorCode.PROTOCOL_VERSION),
        ({"op": "vm.explode"}, ErrorCode.UNKNOWN_OPERATION),
        ({"op": 1}, ErrorCode.MALFORMED_MESSAGE),
        ({"context": {"whose": "ours"}}, ErrorCode.MALFORMED_MESSAGE),
        ({"body": [[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]}, ErrorCode.MALFORMED_MESSAGE),
        ({"op": "vm.create", "body": {}}, ErrorCode.INVALID_CONFIG),
        (
            {"op": "vm.create", "body": {"payload": {"kernel": "/k"}, "tpm": {}}},
            ErrorCode.NOT_SUPPORTED,
        ),
        ({"deadline": 1}, ErrorCode.VMM_TIMEOUT),
    ],
)
def test_what_is_refused_is_told_why(
    worker: Any, peer: Peer, change: dict[str, Any], code: ErrorCode
) -> None:
    reply = peer.ask(GOOD | change)
    assert reply.error is not None
    assert reply.error.code is code
    assert worker.server.counters.refused == 1


@pytest.mark.usefixtures("worker")
def test_a_message_beyond_all_bounds_costs_its_sender_the_connection(
    path: Path, peer: Peer
) -> None:
    monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    peer.socket.send(bytes(codec.MAX_MESSAGE + 1))
    assert monitor.poll(WAIT_MS)
    peer.socket.disable_monitor()
    monitor.close()
    other = Peer(path)
    other.ping()
    other.close()


@pytest.mark.usefixtures("worker")
def test_what_speaks_another_protocol_is_ignored(path: Path, peer: Peer) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(path))
        stranger.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(100))
        stranger.settimeout(WAIT_MS / 1000)
        while stranger.recv(4096):
            pass
    peer.ping()


def test_replies_to_who_is_gone_are_forgotten(path: Path) -> None:
    with Server(path) as server:
        peer = Peer(path)
        peer.socket.send(msgpack.packb(GOOD))
        assert server.socket.poll(WAIT_MS)
        incoming = server.receive()
        assert incoming is not None
        peer.close()
        deadline = time.monotonic() + WAIT_MS / 1000
        while not server.counters.undelivered:
            assert time.monotonic() < deadline
            server.reply(incoming)
            server.fail(incoming, VmError(code=ErrorCode.INTERNAL, message=""))


def test_a_peer_that_reads_gets_every_reply(path: Path) -> None:
    """However little the server gets to see of what the peer has read."""
    with Server(path) as server:
        peer = Peer(path)
        for _ in range(500):
            peer.socket.send(msgpack.packb(GOOD))
        incoming: list[Incoming] = []
        while len(incoming) < 500:
            assert server.socket.poll(WAIT_MS)
            while (each := server.receive()) is not None:
                incoming.append(each)
        for each in incoming:
            server.reply(each)
            assert peer.answer().error is None
        assert not server.counters.undelivered
        peer.close()


def test_a_peer_that_asks_and_never_reads_does_not_block(path: Path) -> None:
    big = {f"device{number}": {"x" * 1000: 1} for number in range(1000)}
    with Server(path) as server:
        peer = Peer(path, RCVHWM=1, RCVBUF=4096)
        asked = 0
        deadline = time.monotonic() + WAIT_MS / 1000
        while not server.counters.undelivered:
            assert time.monotonic() < deadline
            peer.socket.send(msgpack.packb(GOOD | {"op": "vm.counters"}))
            asked += 1
            assert server.socket.poll(WAIT_MS)
            while (incoming := server.receive()) is not None:
                server.reply(incoming, big)
        other = Peer(path)
        other.socket.send(msgpack.packb(GOOD))
        assert server.socket.poll(WAIT_MS)
        while (incoming := server.receive()) is not None:
            server.reply(incoming)
        assert other.answer().id == GOOD["id"]
        other.close()
        peer.close()


def test_a_flood_of_garbage_leaves_room_for_other_events(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "OFFENCES", 1 << 30)
    with Server(path) as server:
        peer = Peer(path, SNDHWM=0)
        for _ in range(1000):
            peer.socket.send(b"")
        deadline = time.monotonic() + WAIT_MS / 1000
        before = 0
        while server.counters.dropped < 1000:
            assert time.monotonic() < deadline
            server.socket.poll(WAIT_MS)
            assert server.receive() is None
            assert server.counters.dropped - before <= 64
            before = server.counters.dropped
        peer.close()


def test_what_cannot_be_sent_is_a_fault_of_ours(
    worker_class: Any, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(server: Server, incoming: Incoming) -> None:
        if incoming.operation is Operation.VMM_PING:
            server.reply(incoming, object())
        elif incoming.operation is Operation.VM_INFO:
            server.reply(incoming, "x" * codec.MAX_MESSAGE)
        else:
            error = VmError(code=ErrorCode.INVALID_KERNEL, message="x" * codec.MAX_MESSAGE)
            server.fail(incoming, error)

    with worker_class(path, answer), Client(path) as client:
        for operation in (Operation.VMM_PING, Operation.VM_INFO, Operation.VM_BOOT):
            with pytest.raises(VmFailure) as caught:
                client.call(operation)
            assert caught.value.error.code is ErrorCode.INTERNAL
            assert caught.value.error.reference
            assert caught.value.error.reference in caplog.text


def test_text_that_is_no_unicode_still_reaches_the_caller(worker_class: Any, path: Path) -> None:
    def answer(server: Server, incoming: Incoming) -> None:
        error = VmError(code=ErrorCode.FILE_UNAVAILABLE, message="/tmp/\udcff")
        server.fail(incoming, error)

    with worker_class(path, answer), Client(path) as client:
        with pytest.raises(VmFailure) as caught:
            client.call(Operation.VM_BOOT)
        assert caught.value.error.message == r"/tmp/\udcff"


def test_a_request_knows_its_deadline_and_signature(path: Path) -> None:
    with Server(path) as server:
        peer = Peer(path)
        request = Request(
            id=envelope.new_id(),
            operation=Operation.VM_PAUSE,
            deadline_ns=time.monotonic_ns() + 60 * 10**9,
        )
        peer.socket.send(envelope.encode_request(request))
        assert server.socket.poll(WAIT_MS)
        incoming = server.receive()
        assert incoming is not None
        assert incoming.signature is SIGNATURES[Operation.VM_PAUSE]
        assert incoming.body is None
        assert not incoming.expired
        assert Incoming(Operation.VM_PAUSE, None, 1, 0, b"", b"").expired
        assert server.receive() is None
        peer.close()


def test_the_last_reply_leaves_before_the_server_does(path: Path) -> None:
    for _ in range(20):
        with Server(path) as server:
            peer = Peer(path)
            peer.socket.send(msgpack.packb(GOOD))
            assert server.socket.poll(WAIT_MS)
            incoming = server.receive()
            assert incoming is not None
            server.reply(incoming)
        assert peer.answer().error is None
        peer.close()


def test_the_path_is_given_up_on_close(path: Path) -> None:
    for _ in range(3):
        server = Server(path)
        with pytest.raises(VmFailure, match="listens there already"):
            Server(path)
        assert path.is_socket()
        server.close()
        server.close()
        assert not list(path.parent.iterdir())


def fail_with(ex: BaseException, cause: BaseException | None = None) -> Any:
    def function() -> None:
        raise ex from cause

    return outcome(function)


def test_outcomes(caplog: pytest.LogCaptureFixture) -> None:
    assert outcome(lambda: 5) == 5
    failure = VmFailure(ErrorCode.INVALID_KERNEL, "no kernel", causes=("too short",))
    assert fail_with(failure, OSError("unrelated")) is failure.error

    bare = VmFailure(ErrorCode.FILE_UNAVAILABLE, "no file")
    middle = VmFailure(ErrorCode.INTERNAL, "in between")
    middle.__cause__ = FileNotFoundError(2, "No such file or directory", "/k")
    error = fail_with(bare, middle)
    assert error.message == "no file"
    assert error.causes == (
        "in between",
        "FileNotFoundError: [Errno 2] No such file or directory: '/k'",
    )
    assert not caplog.records

    with caplog.at_level(logging.ERROR):
        error = fail_with(KeyError(), ZeroDivisionError("by zero"))
    assert error.code is ErrorCode.INTERNAL
    assert error.causes == ("KeyError", "ZeroDivisionError: by zero")
    assert error.reference in error.message
    (record,) = caplog.records
    assert error.reference in record.getMessage()
    assert record.exc_info is not None


def test_an_order_to_stop_is_no_outcome() -> None:
    for order in (KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(order)):
            fail_with(order)


def test_causes_that_go_in_circles_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(causes_of(first)) == 16
