# SPDX-License-Identifier: Apache-2.0
"""What a worker says of itself to whoever monitors it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import zmq

from ipc_protocol.errors import ErrorCode
from ipc_protocol.jobs import JobState
from ipc_protocol.messages import Operation, VmState, WorkerMetrics
from ipc_protocol.names import endpoint
from tests.support.guests import build
from tests.support.processes import Worker, eventually, start_worker, vm_config

MEMORY = 128 << 20


def metrics(worker: Worker) -> WorkerMetrics:
    answer = worker.call("vmm.metrics")
    assert isinstance(answer, WorkerMetrics)
    return answer


def test_operations_are_counted_and_timed_with_their_errors(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        before = metrics(worker)
        assert before.state is None
        assert before.counters == {}
        assert worker.error("vm.boot").code is ErrorCode.VM_NOT_CREATED
        assert worker.error("vm.info").code is ErrorCode.VM_NOT_CREATED
        for _ in range(3):
            worker.call("vmm.ping")
        after = metrics(worker)
    boot = after.operations[Operation.VM_BOOT]
    assert boot.errors == {ErrorCode.VM_NOT_CREATED: 1}
    assert sum(boot.latency.counts) == 1
    assert boot.latency.sum > 0
    assert after.operations[Operation.VM_INFO].errors == {ErrorCode.VM_NOT_CREATED: 1}
    pings = [sum(each.operations[Operation.VMM_PING].latency.counts) for each in (before, after)]
    assert pings[1] == pings[0] + 3
    assert after.operations[Operation.VMM_PING].errors == {}


def test_jobs_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        worker.error("vm.boot")
        worker.call("vm.create", vm_config("/nonexistent/kernel"))
        worker.error("vm.boot")
        jobs = metrics(worker).jobs
    assert jobs == {
        JobState.QUEUED: 0,
        JobState.RUNNING: 0,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 2,
        JobState.CANCELLED: 0,
    }


def test_the_process_is_told_of_as_the_kernel_sees_it(tmp_path: Path) -> None:
    begun = time.time()
    with start_worker(tmp_path) as worker:
        answer = metrics(worker).process
        assert begun <= answer.start_time <= time.time()
        assert answer.threads == len(worker.threads())
        assert answer.open_descriptors == len(worker.descriptors())
        assert 0 < answer.cpu_seconds <= time.time() - begun + 1
        assert answer.resident_bytes > 1 << 20


def test_a_message_that_is_no_request_is_counted(tmp_path: Path) -> None:
    with (
        start_worker(tmp_path) as worker,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as stranger,
    ):
        stranger.linger = 0
        stranger.connect(endpoint(worker.ipc))
        stranger.send(b"what is this?")
        eventually(lambda: metrics(worker).ipc.dropped == 1, "the message is counted")


@pytest.mark.kvm
def test_the_vm_is_told_of_while_it_is_there(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        config = vm_config(build("count"), memory={"size": MEMORY, "prefault": True})
        worker.call("vm.create", config)
        created = metrics(worker)
        assert (created.state, created.boots) == (VmState.CREATED, 0)
        assert created.memory_actual_size == MEMORY
        assert created.memory_resident == 0
        worker.call("vm.boot")
        eventually(lambda: metrics(worker).counters["__vcpu0"]["cpu_us"], "the vCPU runs")
        running = metrics(worker)
        assert (running.state, running.boots) == (VmState.RUNNING, 1)
        assert running.counters.keys() == worker.call("vm.counters").keys()
        # All of it is there, and what the process needs beside it grows little at a boot.
        assert MEMORY * 7 // 8 <= running.memory_resident <= MEMORY
        worker.call("vm.delete")
        deleted = metrics(worker)
        assert (deleted.state, deleted.memory_actual_size) == (None, 0)
        assert (deleted.memory_resident, deleted.counters) == (0, {})


@pytest.mark.kvm
def test_memory_that_no_guest_has_touched_is_not_resident(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", vm_config(build("count"), memory={"size": MEMORY}))
        worker.call("vm.boot")
        assert metrics(worker).memory_resident < MEMORY // 2
