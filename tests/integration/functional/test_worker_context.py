# SPDX-License-Identifier: Apache-2.0
"""What a worker makes of the context of a call, whoever it is that calls."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ipc_protocol.context import Context
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.jobs import JobInfo, JobState
from ipc_protocol.messages import SIGNATURES, Operation, VmState
from tests.support.guests import build
from tests.support.processes import Worker, eventually, slow_memory, start_worker, vm_config

ASYNC = Context(respond_async=True)
TRIAL = Context(dry_run=True)
CONFIG = vm_config("/nowhere/vmlinuz")
WITHOUT_BODY = [each for each in Operation if SIGNATURES[each].request is None]
JOBS = [each for each in WITHOUT_BODY if SIGNATURES[each].is_job]
READS = [each for each in WITHOUT_BODY if SIGNATURES[each].reads]


def refused(worker: Worker, operation: Operation, context: Context) -> ErrorCode:
    with pytest.raises(VmFailure) as caught:
        worker.client.call(operation, context=context)
    return caught.value.error.code


@pytest.mark.kvm
@pytest.mark.parametrize("state", [None, VmState.CREATED])
def test_a_configuration_is_tried_in_every_state(worker: Worker, state: VmState | None) -> None:
    if state is not None:
        worker.call("vm.create", CONFIG)
    other = vm_config(build("hello"))
    assert worker.client.call(Operation.VM_CREATE, other, context=TRIAL) is None
    if state is None:
        assert worker.error("vm.info").code is ErrorCode.VM_NOT_CREATED
    else:
        assert worker.info().config.payload.kernel == CONFIG["payload"]["kernel"]


def test_nothing_else_can_be_tried_and_nothing_is_done(worker: Worker) -> None:
    worker.call("vm.create", CONFIG)
    for operation in JOBS:
        assert refused(worker, operation, TRIAL) is ErrorCode.NOT_SUPPORTED
    for operation in READS:
        assert refused(worker, operation, TRIAL) is ErrorCode.INVALID_REQUEST
    assert worker.info().state is VmState.CREATED
    assert worker.process.poll() is None


def test_a_read_is_no_job(worker: Worker) -> None:
    for operation in READS:
        assert refused(worker, operation, ASYNC) is ErrorCode.INVALID_REQUEST
    assert worker.call("vmm.jobs") == ()


def test_the_end_of_a_worker_is_a_job_as_well(worker: Worker) -> None:
    job = worker.client.call(Operation.VMM_SHUTDOWN, context=ASYNC)
    assert isinstance(job, JobInfo)
    assert worker.wait() == 0


@pytest.mark.kvm
def test_the_jobs_of_the_command_line_say_so(tmp_path: Path) -> None:
    arguments = ("--kernel", build("hello"), "--memory", "size=16M")
    with start_worker(tmp_path, *arguments) as worker:
        worker.wait_for(state=VmState.RUNNING)
        jobs = worker.call("vmm.jobs")
        assert [job.operation for job in jobs] == ["vm.create", "vm.boot"]
        assert {job.request_id for job in jobs} == {"command-line"}
        assert "vm.boot done; state: Running request_id=command-line" in worker.read_log()


@pytest.mark.kvm
def test_a_reboot_that_is_cancelled_leaves_the_configuration(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("hello"), memory=slow_memory()))
    worker.call("vm.boot")

    def newest() -> JobInfo:
        job: JobInfo = worker.call("vmm.jobs")[-1]
        return job

    def cancelled() -> bool:
        """Reboot once, and cancel it if it can be caught."""
        job = worker.client.call(Operation.VM_REBOOT, context=ASYNC)
        eventually(lambda: newest().ended or newest().stage == "memory", "it is under way")
        with contextlib.suppress(VmFailure):  # It may be over just then.
            worker.call("vmm.cancel", {"id": job.id})
        eventually(lambda: newest().ended, "it is over")
        return newest().state is JobState.CANCELLED

    eventually(cancelled, "a reboot is cancelled")
    assert worker.info().state is VmState.CREATED
    worker.call("vm.boot")
    assert worker.info().state is VmState.RUNNING
