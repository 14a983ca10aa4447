# SPDX-License-Identifier: Apache-2.0
"""How many may be connected, and what becomes of who misbehaves."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ipc_protocol import client as client_module
from ipc_protocol import codec, connections
from ipc_protocol.client import Client
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation
from tests.support.processes import DEADLINE, eventually

PING = """
import sys
from ipc_protocol.client import Client
from ipc_protocol.messages import Operation
with Client(sys.argv[1]) as client:
    client.call(Operation.VMM_PING, timeout=60)
"""


@contextlib.contextmanager
def dealer(path: Path) -> Iterator[Callable[..., None]]:
    """Lend what sends frames over a connection that libzmq makes anew whenever it is ended."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    peer.sndhwm = 0
    peer.connect(f"ipc://{path}")
    try:
        yield lambda *frames: peer.send_multipart(frames)
    finally:
        peer.close()
        context.term()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    connection.settimeout(DEADLINE)
    return connection


def await_end(connection: socket.socket) -> None:
    """Wait until the server ends it."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(64):
            pass


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def ping_from_another_process(path: Path) -> None:
    package = Path(client_module.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", PING, path],
        check=True,
        env=os.environ | {"PYTHONPATH": str(package)},
    )


def test_clients_that_come_and_go_are_never_to_blame(worker: Any, path: Path) -> None:
    for _ in range(5):
        with Client(path) as client:
            client.call(Operation.VMM_PING)
            assert len(worker.server.connections) == 1
        eventually(lambda: not len(worker.server.connections), "it is gone")
    assert worker.server.connections.ended == connections.Ended()


def test_who_talks_nonsense_is_disconnected_and_not_heard_for_a_while(
    worker: Any, path: Path
) -> None:
    ended = worker.server.connections.ended
    with dealer(path) as say:
        for _ in range(connections.OFFENCES):
            say(b"nonsense")
        eventually(lambda: ended.abusive, "the connection is ended")
        # The first try again of this same process.
        eventually(lambda: ended.abusive > 1, "the next one is ended too")
        ping_from_another_process(path)
    assert worker.server.counters.dropped >= connections.OFFENCES


def test_who_was_not_heard_is_heard_again(
    worker: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_BAN_S", 0.2)
    with dealer(path) as say:
        for _ in range(connections.OFFENCES):
            say(b"nonsense")
        eventually(lambda: worker.server.connections.ended.abusive, "the connection is ended")

    def heard() -> bool:
        with Client(path) as client, contextlib.suppress(VmFailure):
            return bool(client.call(Operation.VMM_PING, timeout=1.0))
        return False

    eventually(heard, "it is heard again")


def test_messages_for_which_there_is_a_reason_are_no_offence(worker: Any, path: Path) -> None:
    with Client(path) as client:
        for _ in range(2 * connections.OFFENCES):
            with pytest.raises(VmFailure) as caught:
                client.call(Operation.VM_CREATE, {"payload": {}})
            assert caught.value.error.code is ErrorCode.INVALID_CONFIG
        client.call(Operation.VMM_PING)
    assert worker.server.connections.ended == connections.Ended()


def test_a_message_of_frames_without_end(worker: Any, path: Path) -> None:
    with dealer(path) as say:
        say(*[b""] * 100_000)
        eventually(lambda: worker.server.connections.ended.abusive, "the connection is ended")
    ping_from_another_process(path)
    assert worker.server.counters.dropped == 1


@pytest.mark.parametrize(
    "bound", ["MAX_OF_PROCESS", "MAX_CONNECTIONS"], ids=["of-process", "of-all"]
)
def test_there_is_an_end_to_connections(
    worker: Any, path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(connections, bound, 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(path))
        eventually(lambda: len(worker.server.connections) == 3, "three stand")
        for surplus in range(1, 4):
            with connect(path) as one_more:
                await_end(one_more)
            assert worker.server.connections.ended.surplus == surplus
            eventually(lambda: len(worker.server.connections) == 3, "three still stand")
    eventually(lambda: not len(worker.server.connections), "all are gone")
    with Client(path) as client:
        client.call(Operation.VMM_PING)


def test_another_protocol_is_counted(worker: Any, path: Path) -> None:
    with connect(path) as stranger:
        # One that is gone before anybody looked may as well have hung up by itself.
        eventually(lambda: len(worker.server.connections) == 1, "it is known")
        stranger.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(100))
        await_end(stranger)
    eventually(lambda: worker.server.connections.ended.foreign == 1, "it is counted")


def test_a_message_beyond_all_bounds_is_counted(worker: Any, path: Path) -> None:
    with dealer(path) as say:
        say(b"nonsense")
        # It is known by then, as the other protocol's connection above.
        eventually(lambda: worker.server.counters.dropped, "a message came")
        say(bytes(codec.MAX_MESSAGE + 1))
        eventually(lambda: worker.server.connections.ended.foreign, "it is counted")


def test_what_an_ended_one_had_sent_is_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes(100_000))
        connections._end(connections._Connection(ours, os.getpid(), os.geteuid()))
        assert ours.recv(1) == b""


def test_nothing_is_left_open(worker: Any, path: Path) -> None:
    before = descriptors()
    for _ in range(50):
        connect(path).close()
    eventually(lambda: descriptors() == before, "all are closed")
    ended = worker.server.connections.ended
    assert ended == connections.Ended(foreign=ended.foreign)  # which numbers taken anew can be


@pytest.mark.parametrize("something", [lambda: os.eventfd(0), lambda: os.memfd_create("file")])
def test_a_descriptor_that_is_something_else_by_now_is_left_alone(
    something: Callable[[], int],
) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        found = connections.Connections(router, "/nowhere")
        other = something()
        before = descriptors()
        found._accepted(other)
        assert (descriptors(), len(found)) == (before, 0)
        os.close(other)
        found.close()
