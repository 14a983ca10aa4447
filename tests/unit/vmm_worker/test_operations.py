# SPDX-License-Identifier: Apache-2.0
"""The operations thread: order, refusals, outcomes."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from vmm_worker.operations import Job, Operations

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
            Job(lambda number=number: (number, threading.get_ident()), results.append)
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
    operations.submit(Job(lambda: release.wait(DEADLINE), results.append, "vm.boot"))
    operations.submit(Job(lambda: "other", results.append, "vm.pause"))
    with pytest.raises(VmFailure) as caught:
        operations.submit(Job(lambda: "never", results.append, "vm.boot"))
    assert caught.value.error.code is ErrorCode.OPERATION_IN_PROGRESS
    release.set()
    while len(results) < 2:
        collect(operations)
    operations.submit(Job(lambda: "again", results.append, "vm.boot"))
    collect(operations)
    assert results == [True, "other", "again"]


def test_failures_are_values(operations: Operations) -> None:
    results: list[object] = []

    def typed() -> None:
        raise VmFailure(ErrorCode.INVALID_KERNEL, "no kernel")

    def untyped() -> None:
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
        operations.submit(Job(lambda number=number: done.append(number), lambda _: None))
    assert operations.close(DEADLINE)
    assert done == [0, 1, 2]


def test_close_does_not_wait_for_ever() -> None:
    operations = Operations()
    release = threading.Event()
    operations.submit(Job(lambda: release.wait(DEADLINE), lambda _: None))
    assert not operations.close(0.05)
    release.set()
    assert operations.close(DEADLINE)
