# SPDX-License-Identifier: Apache-2.0
"""Jobs: who is answered what and when, on a real operations thread."""

from __future__ import annotations

import itertools
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipc_protocol.context import Context
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.jobs import JobInfo, JobState
from ipc_protocol.messages import Operation
from ipc_protocol.server import Incoming
from vmm_worker.jobs import KEPT, Jobs
from vmm_worker.operations import Operations
from vmm_worker.progress import Progress

DEADLINE = 20.0
NEVER = 1 << 62


class Desk:
    """Where requests come in and answers go out, as in the control loop."""

    def __init__(self) -> None:
        self.operations = Operations()
        self.jobs = Jobs(self.operations, self._note)
        self.answers: dict[bytes, object] = {}
        self.done: list[object] = []
        self.release = threading.Event()
        self._ids = itertools.count(1)

    def _note(self, incoming: Incoming, result: object) -> None:
        assert incoming.id not in self.answers, "answered twice"
        self.answers[incoming.id] = result

    def ask(
        self,
        run: Callable[[Progress], object],
        operation: Operation = Operation.VM_BOOT,
        *,
        body: object = None,
        deadline_ns: int = NEVER,
        **context: Any,
    ) -> bytes:
        """Ask for something and return what its answer will be under."""
        correlation = next(self._ids).to_bytes(8, "big")
        incoming = Incoming(
            operation, body, deadline_ns, 1, correlation, b"peer", Context(**context)
        )
        self.jobs.begin(incoming, run, self.done.append)
        return correlation

    def hold(self, progress: Progress) -> str:
        """Run until released."""
        progress.enter("held")
        assert self.release.wait(DEADLINE)
        return "held"

    def collect(self, count: int) -> None:
        """Take in results until so many jobs are over."""
        while len(self.done) < count:
            assert select.select([self.operations.done_fd], [], [], DEADLINE)[0]
            self.operations.collect()

    def error(self, correlation: bytes) -> ErrorCode:
        error = self.answers[correlation]
        assert isinstance(error, VmError)
        return error.code

    def wait_for(self, **expected: object) -> JobInfo:
        """Wait until the newest job has these members."""
        deadline = time.monotonic() + DEADLINE
        while True:
            info = self.jobs.infos()[-1]
            if all(getattr(info, name) == value for name, value in expected.items()):
                return info
            assert time.monotonic() < deadline, info
            time.sleep(0.001)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.release.set()
    assert desk.operations.close(DEADLINE)


def fail(_: Progress) -> None:
    raise VmFailure(ErrorCode.INVALID_KERNEL, "no kernel")


def test_who_waits_is_answered_when_it_is_over(desk: Desk) -> None:
    first = desk.ask(desk.hold, request_id="r-1")
    second = desk.ask(fail, Operation.VM_PAUSE)
    running = desk.wait_for(state=JobState.QUEUED)
    assert desk.jobs.infos()[0].request_id == "r-1"
    assert desk.answers == {}
    assert running.started is None
    desk.release.set()
    desk.collect(2)
    assert desk.answers[first] == "held"
    assert desk.error(second) is ErrorCode.INVALID_KERNEL
    succeeded, failed = desk.jobs.infos()
    assert (succeeded.operation, succeeded.state) == ("vm.boot", JobState.SUCCEEDED)
    assert (succeeded.progress, succeeded.stage, succeeded.error) == (1.0, "held", None)
    assert (failed.operation, failed.state) == ("vm.pause", JobState.FAILED)
    assert failed.error == desk.answers[second]
    for job in (succeeded, failed):
        assert job.started is not None
        assert job.ended is not None
        assert job.submitted <= job.started <= job.ended


def test_who_does_not_wait_is_told_which_job_it_is(desk: Desk) -> None:
    correlation = desk.ask(desk.hold, respond_async=True)
    told = desk.answers[correlation]
    assert isinstance(told, JobInfo)
    assert told.state in (JobState.QUEUED, JobState.RUNNING)
    assert desk.wait_for(state=JobState.RUNNING, stage="held").id == told.id
    desk.release.set()
    desk.collect(1)
    assert desk.jobs.infos()[0].state is JobState.SUCCEEDED
    assert desk.answers == {correlation: told}


def test_a_second_of_a_kind_is_refused_and_is_no_job(desk: Desk) -> None:
    desk.ask(desk.hold)
    for respond_async in (False, True):
        refused = desk.ask(desk.hold, respond_async=respond_async)
        assert desk.error(refused) is ErrorCode.OPERATION_IN_PROGRESS
    assert len(desk.jobs.infos()) == 1


def test_what_nobody_waits_for_any_more_is_not_done(desk: Desk) -> None:
    desk.ask(desk.hold)
    ran: list[str] = []
    late = desk.ask(lambda _: ran.append("late"), Operation.VM_PAUSE, deadline_ns=1)
    desk.ask(lambda _: ran.append("async"), Operation.VM_RESUME, deadline_ns=1, respond_async=True)
    desk.ask(lambda _: ran.append("joined"), Operation.VM_NMI, deadline_ns=1, idempotency_key="k")
    desk.ask(lambda _: ran.append("again"), Operation.VM_NMI, idempotency_key="k")
    desk.release.set()
    desk.collect(4)
    assert ran == ["async", "joined"]
    assert desk.error(late) is ErrorCode.VMM_TIMEOUT


def test_a_retry_joins_what_runs_and_repeats_what_succeeded(desk: Desk) -> None:
    first = desk.ask(desk.hold, idempotency_key="k")
    joined = desk.ask(fail, idempotency_key="k")
    elsewhere = desk.ask(fail, idempotency_key="k", respond_async=True)
    desk.release.set()
    desk.collect(1)
    again = desk.ask(fail, idempotency_key="k")
    assert [desk.answers[each] for each in (first, joined, again)] == ["held"] * 3
    (job,) = desk.jobs.infos()
    told = desk.answers[elsewhere]
    assert isinstance(told, JobInfo)
    assert told.id == job.id
    later = desk.ask(fail, idempotency_key="k", respond_async=True)
    assert desk.answers[later] == job


def test_a_failure_is_tried_again_and_another_request_refused(desk: Desk) -> None:
    first = desk.ask(fail, idempotency_key="k")
    desk.collect(1)
    second = desk.ask(lambda _: "now", idempotency_key="k")
    desk.collect(2)
    assert desk.error(first) is ErrorCode.INVALID_KERNEL
    assert desk.answers[second] == "now"
    other = desk.ask(lambda _: "no", Operation.VM_PAUSE, idempotency_key="k")
    assert desk.error(other) is ErrorCode.IDEMPOTENCY_CONFLICT
    assert len(desk.jobs.infos()) == 2


def test_a_job_that_waits_is_cancelled_at_once(desk: Desk) -> None:
    desk.ask(desk.hold)
    ran: list[object] = []
    waiting = desk.ask(ran.append, Operation.VM_PAUSE, idempotency_key="k")
    job = desk.jobs.infos()[-1]
    desk.jobs.cancel(job.id)
    assert desk.error(waiting) is ErrorCode.OPERATION_CANCELLED
    cancelled = desk.jobs.infos()[-1]
    assert (cancelled.state, cancelled.started) == (JobState.CANCELLED, None)
    assert cancelled.error == desk.answers[waiting]
    again = desk.ask(lambda _: "now", Operation.VM_PAUSE, idempotency_key="k")
    desk.release.set()
    desk.collect(3)
    assert desk.answers[again] == "now"
    assert not ran


def test_a_job_that_runs_is_cancelled_where_it_can_be(desk: Desk) -> None:
    def run(progress: Progress) -> None:
        progress.enter("long")
        while True:
            progress.advance(0.25)

    correlation = desk.ask(run)
    job = desk.wait_for(stage="long", progress=0.25)
    desk.jobs.cancel(job.id)
    desk.collect(1)
    assert desk.error(correlation) is ErrorCode.OPERATION_CANCELLED
    ended = desk.jobs.infos()[-1]
    assert (ended.state, ended.stage, ended.progress) == (JobState.CANCELLED, "long", 0.25)


def test_what_cannot_be_cancelled_says_why(desk: Desk) -> None:
    with pytest.raises(VmFailure, match=r"vmm\.jobs lists") as caught:
        desk.jobs.cancel("nobody's")
    assert caught.value.error.code is ErrorCode.JOB_UNKNOWN
    desk.ask(lambda _: None)
    desk.ask(fail, Operation.VM_PAUSE)
    desk.collect(2)
    for job, state in zip(desk.jobs.infos(), ("Succeeded", "Failed"), strict=True):
        with pytest.raises(VmFailure, match=f"is over already: {state}") as caught:
            desk.jobs.cancel(job.id)
        assert caught.value.error.code is ErrorCode.JOB_FINISHED


def test_the_last_jobs_are_kept_and_those_that_are_not_over(desk: Desk) -> None:
    desk.ask(desk.hold)
    held = desk.jobs.infos()[0].id
    for _ in range(KEPT + 10):
        desk.ask(lambda _: None, Operation.VM_PAUSE)
        desk.jobs.cancel(desk.jobs.infos()[-1].id)
    infos = desk.jobs.infos()
    assert len(infos) == KEPT
    assert infos[0].id == held
    assert [job.submitted for job in infos] == sorted(job.submitted for job in infos)
