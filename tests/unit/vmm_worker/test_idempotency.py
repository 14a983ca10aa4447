# SPDX-License-Identifier: Apache-2.0
"""Keys of retries: what they are worth, and for how long."""

from __future__ import annotations

import pytest

from ipc_protocol.config import PayloadConfig, VmConfig
from ipc_protocol.context import Context
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.server import Incoming
from vmm_worker.idempotency import AGE, KEPT, Keys, fingerprint


class Clock:
    """One that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> Keys[str]:
    return Keys(clock)


def test_a_key_is_known_while_its_call_runs_and_when_it_succeeded(keys: Keys[str]) -> None:
    assert keys.find("k", b"asked") is None
    keys.begin("k", b"asked", "call")
    assert keys.find("k", b"asked") == "call"
    keys.end("k", succeeded=True)
    assert keys.find("k", b"asked") == "call"


def test_a_key_whose_call_failed_is_free_again(keys: Keys[str]) -> None:
    keys.begin("k", b"asked", "call")
    keys.end("k", succeeded=False)
    assert keys.find("k", b"another") is None


@pytest.mark.parametrize("over", [False, True])
def test_a_key_of_another_request_is_refused(keys: Keys[str], over: bool) -> None:
    keys.begin("k", b"asked", "call")
    if over:
        keys.end("k", succeeded=True)
    with pytest.raises(VmFailure, match="Idempotency-Key k was used") as caught:
        keys.find("k", b"another")
    assert caught.value.error.code is ErrorCode.IDEMPOTENCY_CONFLICT


def test_the_newest_successes_are_kept_and_all_that_runs(keys: Keys[str]) -> None:
    keys.begin("runs", b"", "runs")
    for number in range(KEPT + 1):
        keys.begin(str(number), b"", str(number))
    for number in reversed(range(KEPT + 1)):
        keys.end(str(number), succeeded=True)
    assert keys.find(str(KEPT), b"") is None, "it succeeded first"
    assert all(keys.find(str(number), b"") == str(number) for number in range(KEPT))
    assert keys.find("runs", b"") == "runs"


def test_a_success_is_kept_for_a_day(keys: Keys[str], clock: Clock) -> None:
    keys.begin("runs", b"", "runs")
    keys.begin("k", b"", "call")
    keys.end("k", succeeded=True)
    clock.now += AGE
    assert keys.find("k", b"") == "call"
    clock.now += 1
    assert keys.find("k", b"") is None
    assert keys.find("runs", b"") == "runs"


def request(operation: Operation, body: object = None, *, dry_run: bool = False) -> Incoming:
    context = Context(request_id="whatever", idempotency_key="k", dry_run=dry_run)
    return Incoming(operation, body, 1, 1, b"any", b"any", context)


def test_a_request_is_known_by_what_it_asks_for() -> None:
    first, second = (VmConfig(payload=PayloadConfig(kernel=path)) for path in ("/a", "/b"))
    different = [
        request(Operation.VM_BOOT),
        request(Operation.VM_PAUSE),
        request(Operation.VM_CREATE, first),
        request(Operation.VM_CREATE, second),
        request(Operation.VM_CREATE, second, dry_run=True),
    ]
    assert len({fingerprint(each) for each in different}) == len(different)
    again = VmConfig(payload=PayloadConfig(kernel="/a"))
    assert fingerprint(request(Operation.VM_CREATE, again)) == fingerprint(different[2])
