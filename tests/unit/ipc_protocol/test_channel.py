# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path

from ipc_protocol import envelope
from ipc_protocol.channel import Channel, Wait
from ipc_protocol.messages import Operation
from ipc_protocol.names import endpoint
from ipc_protocol.server import Server

PATIENCE_NS = 20_000_000_000


def _deadline() -> int:
    return time.monotonic_ns() + PATIENCE_NS


def _request() -> bytes:
    request = envelope.Request(
        id=envelope.new_id(),
        operation=Operation.VMM_SHUTDOWN,
        deadline_ns=_deadline(),
        body=None,
    )
    return envelope.encode_request(request)


def test_the_last_reply_outlives_the_connection(tmp_path: Path) -> None:
    """What a worker answers right before it ends is there, however late it is read."""
    path = tmp_path / "vm.ipc"
    with Server(path) as server:
        channel = Channel(endpoint(path))
        assert channel.connected(_deadline())
        assert not channel.lost()
        assert channel.send(_request())
        assert server.socket.poll(PATIENCE_NS // 1_000_000)
        incoming = server.receive()
        assert incoming is not None
        server.reply(incoming)
    deadline = _deadline()
    while not channel.lost():
        assert time.monotonic_ns() < deadline
        time.sleep(0.001)
    try:
        assert channel.wait(_deadline()) is Wait.READY
        data = channel.receive()
        assert data is not None
        assert envelope.decode_reply(data).id == incoming.id
        assert channel.wait(_deadline()) is Wait.LOST
    finally:
        channel.close()


def test_nobody_listens(tmp_path: Path) -> None:
    channel = Channel(endpoint(tmp_path / "vm.ipc"))
    assert not channel.connected(time.monotonic_ns() + 50_000_000)
    channel.close()
