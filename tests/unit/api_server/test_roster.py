# SPDX-License-Identifier: Apache-2.0
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from api_server import roster
from api_server.peers import Peers
from api_server.roster import Roster, WorkerInfo, WorkerState
from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation, VmInfo, VmState
from ipc_protocol.names import IPC_FILE, ipc_path
from tests.support.api import SILENCE, Peer
from tests.support.processes import eventually

_CONFIG = msgspec.convert({"payload": {"kernel": "/k"}}, VmConfig)


class _Counted(Peers):
    """No workers; counts how often they are looked for, and waits there."""

    def __init__(self):
        super().__init__(Path("/nowhere"), "default")
        self.asked = 0
        self.go_on = threading.Semaphore(0)

    def everyone(self):
        self.asked += 1
        self.go_on.acquire()
        return {}


def _in_state(state):
    return lambda _: VmInfo(config=_CONFIG, state=state, memory_actual_size=0)


@pytest.fixture
def peers(tmp_path):
    peers = Peers(tmp_path, "default")
    yield peers
    peers.close()


def test_every_worker_is_in_it_by_name_with_its_state(peers, tmp_path, monkeypatch):
    # Long for those that answer, as long as it takes for the one that does not.
    monkeypatch.setattr(roster, "PATIENCE", 3.0)
    with (
        Peer(ipc_path(tmp_path, "b")) as b,
        Peer(ipc_path(tmp_path, "a")) as a,
        Peer(ipc_path(tmp_path, "hung")) as hung,
        Peer(ipc_path(tmp_path, "odd")) as odd,
        Peer(tmp_path / "Not-A-Name" / IPC_FILE),
    ):
        a.answers[Operation.VM_INFO] = _in_state(VmState.RUNNING)
        b.fail(Operation.VM_INFO, ErrorCode.VM_NOT_CREATED)
        hung.answers[Operation.VMM_PING] = lambda _: SILENCE
        odd.fail(Operation.VMM_PING, ErrorCode.PROTOCOL_VERSION, message="another release")
        no_socket = ipc_path(tmp_path, "file")
        no_socket.parent.mkdir()
        no_socket.write_text("no socket")
        found = Roster(peers).read()
    assert [each.name for each in found] == ["a", "b", "hung", "odd"]
    ours = os.getpid()
    assert found[0] == WorkerInfo(name="a", state=WorkerState.RUNNING, pid=ours)
    assert found[1] == WorkerInfo(name="b", state=WorkerState.NOT_CREATED, pid=ours)
    assert (found[2].state, found[2].pid) == (WorkerState.UNRESPONSIVE, ours)
    assert "did not answer" in found[2].detail
    assert found[3] == WorkerInfo(
        name="odd", state=WorkerState.UNAVAILABLE, detail="another release"
    )


def test_what_a_killed_worker_left_behind_is_unavailable(peers, tmp_path):
    path = ipc_path(tmp_path, "gone")
    with Peer(path):
        path.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(path)
    (found,) = Roster(peers).read()
    assert (found.name, found.state, found.pid) == ("gone", WorkerState.UNAVAILABLE, None)


def test_every_state_of_a_vm_is_one_of_a_worker():
    assert {str(state) for state in VmState} < {str(state) for state in WorkerState}


def test_those_who_come_meanwhile_share_the_next_answer_and_none_gets_an_older_one():
    peers = _Counted()
    roster = Roster(peers)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(roster.read)
        eventually(lambda: peers.asked == 1, "the first asks")
        others = [pool.submit(roster.read) for _ in range(7)]
        eventually(
            lambda: roster._next and len(roster._next._condition._waiters) == 6, "all but one wait"
        )
        peers.go_on.release()
        assert first.result(20) == ()
        eventually(lambda: peers.asked == 2, "that one asks")
        assert not any(other.done() for other in others)
        peers.go_on.release()
        assert [other.result(20) for other in others] == [()] * 7
    assert peers.asked == 2


def test_a_failure_is_everybody_s_and_not_the_last_word(peers, monkeypatch):
    failing = VmFailure(ErrorCode.HOST_RESOURCE, "no threads")

    def fail():
        raise failing

    monkeypatch.setattr(peers, "everyone", fail)
    roster = Roster(peers)
    for _ in range(2):
        with pytest.raises(VmFailure):
            roster.read()
    monkeypatch.undo()
    assert roster.read() == ()
