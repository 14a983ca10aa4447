# SPDX-License-Identifier: Apache-2.0
"""Peers that flood a worker: it goes on to serve the others, and counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.messages import VmState, WorkerMetrics
from tests.support.guests import build
from tests.support.hostile import Usage
from tests.support.ipc_flood import KINDS, MANY
from tests.support.processes import Daemon, Worker, eventually, start_worker, vm_config

pytestmark = pytest.mark.kvm

CALLS = 100


@contextlib.contextmanager
def flood(worker: Worker, *kinds: str) -> Iterator[None]:
    """Have a process for each kind do its worst."""
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            log = worker.log.with_name(f"{kind}.log")
            peer = Daemon("tests.support.ipc_flood", kind, worker.ipc, log=log)
            stack.callback(peer.process.wait)
            stack.callback(peer.process.kill)
        yield


def metrics(worker: Worker) -> WorkerMetrics:
    answer = worker.call("vmm.metrics", timeout=60.0)
    assert isinstance(answer, WorkerMetrics)
    return answer


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker with a guest that has run: with some KVMs a vCPU has a descriptor from then on."""
    said = tmp_path / "serial"
    with start_worker(tmp_path) as worker:
        worker.call(
            "vm.create", vm_config(build("count"), serial={"mode": "File", "file": str(said)})
        )
        worker.call("vm.boot")
        eventually(said.read_bytes, "the guest counts")
        yield worker


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nonsense", "abusive"),
        ("costly", "abusive"),
        ("frames", "abusive"),
        ("oversized", "foreign"),
        ("foreign", "foreign"),
        ("connections", "surplus"),
    ],
)
def test_others_are_served_while_one_floods(worker: Worker, kind: str, reason: str) -> None:
    before = Usage.of(worker.pid)
    with flood(worker, kind):
        eventually(lambda: metrics(worker).ipc.ended[reason], f"{reason} is counted")
        for _ in range(CALLS):
            assert worker.call("vmm.ping", timeout=60.0).pid == worker.pid
        worker.call("vm.pause", timeout=60.0)
        worker.call("vm.resume", timeout=60.0)
    assert worker.info().state is VmState.RUNNING
    eventually(lambda: metrics(worker).ipc.connections == 1, "only ours is left")
    eventually(
        lambda: Usage.of(worker.pid).growth_since(before).descriptors <= 0,
        "all other connections are closed",
    )


def test_others_are_served_while_all_flood(worker: Worker) -> None:
    with flood(worker, *KINDS):
        # Who is gone before the worker has come to look at him is not counted as foreign.
        eventually(
            lambda: all(metrics(worker).ipc.ended[each] for each in ("abusive", "surplus")),
            "both are counted",
        )
        for _ in range(CALLS // 5):
            assert worker.call("vmm.ping", timeout=60.0).pid == worker.pid
    assert worker.info().state is VmState.RUNNING
    # Of the same complaint there are few lines, however often it was to be made.
    assert len(worker.read_log().splitlines()) < 200


def test_more_connections_than_a_process_may_have_descriptors(worker: Worker) -> None:
    """libzmq by itself would end the process."""
    assert MANY > 1024
    with flood(worker, "connections"):
        eventually(lambda: metrics(worker).ipc.ended["surplus"] > MANY, "it has tried them all")
    assert worker.info().state is VmState.RUNNING
