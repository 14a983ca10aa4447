# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from api_server.peers import Peers
from api_server.survey import survey
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.listener import lock_path
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.names import IPC_FILE, ipc_path
from tests.support.api import SILENCE, Peer

PATIENCE = 30.0


@pytest.fixture
def peers(tmp_path):
    peers = Peers(tmp_path, "default")
    yield peers
    peers.close()


def test_no_worker_is_no_answer(peers):
    assert survey(peers, Operation.VMM_PING, timeout=PATIENCE) == {}


def test_every_worker_is_asked_at_the_same_time(tmp_path, peers):
    """None of them answers before all are asked."""
    names = [f"vm{number:02}" for number in range(20)]
    meeting = threading.Barrier(len(names), timeout=PATIENCE)
    with contextlib.ExitStack() as stack:
        for name in reversed(names):
            peer = stack.enter_context(Peer(ipc_path(tmp_path, name)))
            answer = VmmPing(build_version=name, version="1", pid=1, features=())
            peer.answers[Operation.VMM_PING] = lambda _, answer=answer: (meeting.wait(), answer)[1]
        answers = survey(peers, Operation.VMM_PING, timeout=PATIENCE)
    assert list(answers) == names
    assert [each.build_version for each in answers.values()] == names


def test_who_hangs_and_who_is_gone_is_told_and_keeps_nobody(tmp_path, peers):
    stale = socket.socket(socket.AF_UNIX)
    for path in (ipc_path(tmp_path, "gone"), tmp_path / "Not-a-name" / IPC_FILE):
        path.parent.mkdir()
    stale.bind(str(ipc_path(tmp_path, "gone")))
    stale.close()
    (tmp_path / "Not-a-name" / IPC_FILE).touch()
    with Peer(ipc_path(tmp_path, "hung")) as hung, Peer(ipc_path(tmp_path, "well")):
        hung.answers[Operation.VMM_PING] = lambda _: SILENCE
        answers = survey(peers, Operation.VMM_PING, timeout=0.5)
    assert list(answers) == ["gone", "hung", "well"]
    assert isinstance(answers["gone"], VmFailure)
    assert answers["gone"].error.code is ErrorCode.VMM_UNAVAILABLE
    assert isinstance(answers["hung"], VmFailure)
    assert answers["hung"].error.code is ErrorCode.VMM_TIMEOUT
    assert isinstance(answers["well"], VmmPing)


def test_who_takes_the_place_of_a_killed_worker_is_never_unknown(tmp_path, peers):
    """It has removed the socket that was left, has the lock, and no socket of its own yet."""
    path = ipc_path(tmp_path, "next")
    path.parent.mkdir()
    lock_path(path).touch()
    assert peers.locate("next") == path
    answers = survey(peers, Operation.VMM_PING, timeout=PATIENCE)
    assert answers["next"].error.code is ErrorCode.VMM_UNAVAILABLE
    lock_path(path).unlink()
    with pytest.raises(VmFailure) as caught:
        peers.locate("next")
    assert caught.value.error.code is ErrorCode.VM_UNKNOWN
    assert survey(peers, Operation.VMM_PING, timeout=PATIENCE) == {}


def test_a_pinned_server_has_one_worker_only(tmp_path):
    with Peer(ipc_path(tmp_path, "other")), Peer(tmp_path / "mine.sock"):
        peers = Peers(Path("/nowhere"), "default", pinned=tmp_path / "mine.sock")
        assert list(survey(peers, Operation.VMM_PING, timeout=PATIENCE)) == ["mine"]
        peers.close()
