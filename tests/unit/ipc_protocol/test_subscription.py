# SPDX-License-Identifier: Apache-2.0
"""Questions for events without a thread that waits: answers, refusals, and lost connections."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.monitor import EventBatch, EventsQuery, MonitorEvent, Timestamp
from ipc_protocol.server import Incoming, Server
from ipc_protocol.subscription import Change, News, Subscription

PATIENCE = 30.0
EPOCH = "0123456789abcdef"
BATCH = EventBatch(EPOCH, 0, 7)

Answer = Callable[[Server, Incoming], None]


def await_news(subscription: Subscription) -> News:
    """Poll as the documentation says, and return the next news."""
    deadline = time.monotonic() + PATIENCE
    while (news := subscription.take()) is None:
        assert time.monotonic() < deadline
        ready, _, _ = select.select(subscription.descriptors, [], [], PATIENCE)
        assert ready, "nothing happens"
    return news


def answer_batch(server: Server, incoming: Incoming) -> None:
    assert incoming.operation is Operation.VMM_EVENTS
    server.reply(incoming, BATCH)


@pytest.fixture
def subscription(path: Path) -> Any:
    subscription = Subscription(path)
    yield subscription
    subscription.close()


def test_one_question_after_another(
    worker_class: Any, path: Path, subscription: Subscription
) -> None:
    with worker_class(path, answer_batch):
        assert await_news(subscription) is Change.MADE
        for after in range(20):
            query = EventsQuery(EPOCH, after, 30_000)
            subscription.ask(query)
            assert subscription.query == query
            assert await_news(subscription) == BATCH
            assert subscription.query is None


def test_only_the_last_question_is_answered(
    worker_class: Any, path: Path, subscription: Subscription
) -> None:
    def answer(server: Server, incoming: Incoming) -> None:
        server.reply(incoming, EventBatch(EPOCH, 0, incoming.body.after))

    with worker_class(path, answer):
        assert await_news(subscription) is Change.MADE
        for after in range(5):
            subscription.ask(EventsQuery(EPOCH, after))
        news = await_news(subscription)
        assert isinstance(news, EventBatch)
        assert news.last == 4
        assert subscription.take() is None


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (VmError(code=ErrorCode.UNKNOWN_OPERATION, message="x"), ErrorCode.UNKNOWN_OPERATION),
        ({"epoch": 7}, ErrorCode.MALFORMED_MESSAGE),
        (EventBatch("e\n", 0, 7), ErrorCode.MALFORMED_MESSAGE),
        (
            EventBatch(EPOCH, 0, 7, (MonitorEvent(Timestamp(0, 0), "vm", "x\ndata: y"),)),
            ErrorCode.MALFORMED_MESSAGE,
        ),
    ],
)
def test_a_refusal_is_news(
    worker_class: Any, path: Path, subscription: Subscription, reply: object, code: ErrorCode
) -> None:
    def answer(server: Server, incoming: Incoming) -> None:
        if isinstance(reply, VmError):
            server.fail(incoming, reply)
        else:
            server.reply(incoming, reply)

    with worker_class(path, answer):
        assert await_news(subscription) is Change.MADE
        subscription.ask(EventsQuery())
        news = await_news(subscription)
        assert isinstance(news, VmFailure)
        assert news.error.code is code
        assert subscription.query is None


def test_a_worker_that_goes_and_comes_back(
    worker_class: Any, path: Path, subscription: Subscription
) -> None:
    assert subscription.take() is None
    for _ in range(3):
        assert not subscription.connected
        with worker_class(path, answer_batch):
            assert await_news(subscription) is Change.MADE
            subscription.ask(EventsQuery())
            assert await_news(subscription) == BATCH
        assert await_news(subscription) is Change.LOST
        subscription.reconnect()


def test_nobody_spins_while_nobody_listens(subscription: Subscription) -> None:
    """The descriptors go quiet once there is nothing to take, however often it was tried."""
    quiet = 0
    for _ in range(20):
        select.select(subscription.descriptors, [], [], 0.05)
        assert subscription.take() is None
        quiet += not select.select(subscription.descriptors, [], [], 0)[0]
    assert quiet > 10
