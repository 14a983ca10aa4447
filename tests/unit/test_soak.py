# SPDX-License-Identifier: Apache-2.0
"""What the soak believes of the API is what the worker's table has, written twice on purpose."""

from __future__ import annotations

import pytest

from api_server.status import STATUS
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import Operation, VmState
from tests.integration.soak.counts import ApiCounts, WorkerCounts
from tests.integration.soak.model import NOTHING, OPERATIONS, OUTCOMES, VmModel
from tests.support.hostile import Usage
from vmm_worker.transitions import TABLE

MIB = 1 << 20


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_outcome_is_the_tables(operation: str) -> None:
    for state, outcome in OUTCOMES[operation].items():
        now = None if state == NOTHING else VmState(state)
        code = TABLE[now, Operation(operation)]
        assert outcome.code == code
        if code is not None:
            assert outcome.status == STATUS[ErrorCode(code)]
            assert outcome.state == state


def test_a_change_under_way_may_be_seen_before_and_after() -> None:
    model = VmModel("a")
    model.begin("Created")
    epoch, possible = model.seen()
    assert possible == {NOTHING, "Created"}
    model.settle("Created", 0)
    assert model.seen() == (epoch + 1, {"Created"})


def test_a_failure_says_what_came_before() -> None:
    model = VmModel("a")
    model.note("vm.create: 204")
    assert "a: it is Paused; before that:\n  vm.create: 204" in str(model.wrong("it is Paused"))


def workers(usage: Usage, *files: str) -> WorkerCounts:
    descriptors = ["socket"] * usage.descriptors
    return WorkerCounts({"a": usage}, {"a": descriptors}, frozenset(files), frozenset())


def test_every_kind_of_leak_is_named() -> None:
    before = workers(Usage(10 * MIB, 12, 4), "/run/a")
    after = workers(Usage(20 * MIB, 13, 6), "/run/a", "/run/b")
    assert after.leaks_since(before) == [
        "the file /run/b was left",
        "a: 1 descriptors more: socket",
        "a: 2 threads more",
        "a: 10.0 MiB more",
    ]
    assert before.leaks_since(after) == []


def test_the_api_may_keep_a_few_connections_to_each_worker() -> None:
    before = ApiCounts(Usage(30 * MIB, 40, 5), workers=2)
    assert ApiCounts(Usage(31 * MIB, 60, 9), workers=2).leaks_since(before) == []
    assert len(ApiCounts(Usage(50 * MIB, 90, 40), workers=2).leaks_since(before)) == 3
