# SPDX-License-Identifier: Apache-2.0
"""The operations thread: order, refusals, outcomes."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Iterator

import pytest

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from vmm_worker.log import name_request
from vmm_worker.operations import Job, Operations
from vmm_worker.progress import Progress

DEADLINE = 20.0


@pytest.fixture
def operations() -> Iterator[Operations]:
    operations = Operations()
    yield operations
    assert operations.close(DEADLINE)


def collect(operations: Operations) -> None:
    assert select.select([operations.done_fd], [], [], DEADLINE)[0]
    operations.collect()


def test_jobs_run_in_order_on_another_thread(operations: Operations) -> None:
    results: list[object] = []
    for number in range(5):
        operations.submit(
            Job(lambda _, number=number: (number, threading.get_ident()), results.append)
        )
    while len(results) < 5:
        collect(operations)
    assert [result[0] for result in results] == list(range(5))
    assert {result[1] for result in results} != {threading.get_ident()}


def test_a_second_of_a_kind_is_refused_until_the_first_is_collected(
    operations: Operations,
) -> None:
    release = threading.Event()
    results: list[object] = []
    operations.submit(Job(lambda _: release.wait(DEADLINE), results.append, "vm.boot"))
    operations.submit(Job(lambda _: "other", results.append, "vm.pause"))
    with pytest.raises(VmFailure) as caught:
        operations.submit(Job(lambda _: "never", results.append, "vm.boot"))
    assert caught.value.error.code is ErrorCode.OPERATION_IN_PROGRESS
    release.set()
    while len(results) < 2:
        collect(operations)
    operations.submit(Job(lambda _: "again", results.append, "vm.boot"))
    collect(operations)
    assert results == [True, "other", "again"]


def test_a_job_is_withdrawn_while_it_waits_for_its_turn(operations: Operations) -> None:
    release = threading.Event()
    results: list[object] = []
    running = Job(lambda _: release.wait(DEADLINE), results.append, "vm.boot")
    waiting = Job(lambda _: "never", results.append, "vm.pause")
    operations.submit(running)
    operations.submit(waiting)
    assert operations.withdraw(waiting)
    assert not operations.withdraw(waiting)
    operations.submit(Job(lambda _: "its kind is free", results.append, "vm.pause"))
    release.set()
    while len(results) < 2:
        collect(operations)
    assert not operations.withdraw(running)
    assert results == [True, "its kind is free"]


def test_all_are_cancelled_where_they_can_be(operations: Operations) -> None:
    started = threading.Event()
    results: list[object] = []

    def run(progress: Progress) -> None:
        progress.enter("first")
        started.set()
        while True:
            progress.advance(0.5)

    def one_step(progress: Progress) -> None:
        progress.enter("only")

    operations.submit(Job(run, results.append))
    operations.submit(Job(one_step, results.append))
    assert started.wait(DEADLINE)
    failure = VmFailure(ErrorCode.VMM_UNAVAILABLE, "the end")
    operations.cancel(failure)
    operations.submit(Job(one_step, results.append))
    while len(results) < 3:
        collect(operations)
    assert results == [failure.error, failure.error, None]


def test_what_a_job_logs_names_its_request(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(name_request)
    log = logging.getLogger(__name__)
    results: list[object] = []
    for request_id in ("", "r-1"):
        operations.submit(Job(lambda _: log.warning("said"), results.append, request_id=request_id))
    while len(results) < 2:
        collect(operations)
    assert [record.request for record in caplog.records] == ["", " request_id=r-1"]


def test_failures_are_values(operations: Operations) -> None:
    results: list[object] = []

    def typed(_: Progress) -> None:
        raise VmFailure(ErrorCode.INVALID_KERNEL, "no kernel")

    def untyped(_: Progress) -> None:
        raise ZeroDivisionError("oops")

    operations.submit(Job(typed, results.append))
    operations.submit(Job(untyped, results.append))
    while len(results) < 2:
        collect(operations)
    assert all(isinstance(result, VmError) for result in results)
    assert [result.code for result in results] == [ErrorCode.INVALID_KERNEL, ErrorCode.INTERNAL]


def test_close_does_what_is_queued_first() -> None:
    operations = Operations()
    done: list[int] = []
    for number in range(3):
        operations.submit(Job(lambda _, number=number: done.append(number)))
    assert operations.close(DEADLINE)
    assert done == [0, 1, 2]


def test_close_does_not_wait_for_ever() -> None:
    operations = Operations()
    release = threading.Event()
    operations.submit(Job(lambda _: release.wait(DEADLINE)))
    assert not operations.close(0.05)
    release.set()
    assert operations.close(DEADLINE)
