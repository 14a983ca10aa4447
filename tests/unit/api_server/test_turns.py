# SPDX-License-Identifier: Apache-2.0
import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api_server import turns as module
from api_server.turns import Turns
from ipc_protocol.errors import ErrorCode, VmFailure
from tests.support.processes import eventually

_A, _B, _C = (Path(f"/run/{name}.ipc") for name in "abc")


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def _take_all(turns, worker, stack):
    while True:
        stack.enter_context(turns.take(worker))


def _fill(turns, worker, stack):
    """Take as many turns as a worker that says nothing gets, and return what is said then."""
    with pytest.raises(VmFailure) as refused:
        _take_all(turns, worker, stack)
    return refused.value.error


def _share(turns, worker, stack):
    return int(re.search(r"(\d+) requests wait", _fill(turns, worker, stack).message)[1])


def test_a_refusal_says_which_worker_it_is(stack, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    error = _fill(Turns(8), _A, stack)
    assert error.code is ErrorCode.VMM_UNAVAILABLE
    assert str(_A) in error.message
    assert "3 requests wait" in error.message


def test_those_that_hang_hold_their_shares(stack, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    turns = Turns(32)
    shares = [_share(turns, Path(name), stack) for name in "abcdefg"]
    assert shares == [11, 7, 5, 3, 2, 2, 2]
    assert sum(shares) == 32


def test_one_that_answers_may_have_all_but_a_few(stack, monkeypatch):
    turns = Turns(32)
    for _ in range(28):
        stack.enter_context(turns.take(_A))
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert _share(turns, _A, stack) == 28
    assert _share(turns, _B, stack) == 2
    assert _share(turns, _C, stack) == 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_look_at_something_long_is_possible_however_few_threads_there_are(
    threads, stack, monkeypatch
):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert _share(Turns(threads), _A, stack) == 2


def _wait_and_go_on(turns, worker, give_back):
    """Have a thread wait for a worker, and see it go on once something is given back."""
    entered = threading.Event()

    def wait():
        with turns.take(worker):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        eventually(lambda: turns._loads[worker].waiting, "it waits")
        assert not entered.is_set()
        give_back()
        waiting.result(20)


def test_who_waits_goes_on_when_a_turn_is_over(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    turns = Turns(2)
    both = contextlib.ExitStack()
    both.enter_context(turns.take(_A))
    both.enter_context(turns.take(_A))
    _wait_and_go_on(turns, _A, both.close)
    assert turns._loads == {}


def test_a_thread_that_another_gives_back_is_for_those_who_wait(stack, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    turns = Turns(8)
    for _ in range(3):
        stack.enter_context(turns.take(_A))
    other = contextlib.ExitStack()
    for _ in range(4):
        other.enter_context(turns.take(_B))
    _wait_and_go_on(turns, _A, other.close)


@pytest.mark.parametrize(
    ("code", "silent"),
    [(ErrorCode.VMM_TIMEOUT, True), (ErrorCode.VM_NOT_RUNNING, False), (None, False)],
)
def test_an_answer_is_an_answer_even_if_it_is_an_error(code, silent, stack):
    turns = Turns(4)
    stack.enter_context(turns.take(_A))
    before = turns._loads[_A].heard
    with contextlib.suppress(VmFailure), turns.take(_A):
        if code is not None:
            raise VmFailure(code, "no")
    assert (turns._loads[_A].heard == before) is silent
