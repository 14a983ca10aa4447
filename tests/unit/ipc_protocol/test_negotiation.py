# SPDX-License-Identifier: Apache-2.0
"""Two versions of the protocol over real sockets: each side with one that is a version behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgpack
import pytest
import zmq

from ipc_protocol import history
from ipc_protocol.client import Client
from ipc_protocol.config import PayloadConfig, VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmError, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.monitor import EventBatch, EventsQuery
from ipc_protocol.subscription import Change, Subscription
from ipc_protocol.version import PREVIOUS_VERSION, PROTOCOL_VERSION
from tests.support.waiting import wait_until

ID = b"0123456789abcdef"
PING: dict[str, Any] = {"build_version": "v0", "version": "0", "pid": 1, "features": []}
BATCH: dict[str, Any] = {"epoch": "0" * 16, "started_ns": 0, "last": 7, "events": [], "lost": False}
VALUES: dict[str, Any] = {"vmm.ping": PING, "vmm.events": BATCH}
REFUSAL: dict[str, Any] = {"code": "protocol_version", "message": "another version"}


class OldWorker:
    """Speaks one version of the protocol, and refuses any other in its own."""

    def __init__(self, path: Path, *, version: int = PREVIOUS_VERSION, answers: int = 0) -> None:
        self.received: list[dict[str, Any]] = []
        self._version = version
        self._answers = answers or version
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(f"ipc://{path}")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            peer, data = self._socket.recv_multipart()
            if not data:
                return
            request = msgpack.unpackb(data)
            self.received.append(request)
            reply = {"v": self._answers, "id": request["id"]}
            if request["v"] == self._version:
                reply |= {"ok": VALUES.get(request["op"])}
            else:
                reply |= {"v": self._version, "error": REFUSAL}
            self._socket.send_multipart([peer, msgpack.packb(reply)])

    @property
    def versions(self) -> list[int]:
        return [request["v"] for request in self.received]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end = self._context.socket(zmq.DEALER)
        end.connect(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        end.send(b"")
        self._thread.join()
        end.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()


@pytest.fixture
def old(path: Path) -> Iterator[OldWorker]:
    with OldWorker(path) as worker:
        yield worker


def test_a_client_speaks_to_an_older_worker_in_its_version(old: OldWorker, client: Client) -> None:
    for _ in range(3):
        assert client.call(Operation.VMM_PING).protocol == PREVIOUS_VERSION
    assert old.versions == [PROTOCOL_VERSION, *[PREVIOUS_VERSION] * 3]


def test_the_successor_of_an_older_worker_is_spoken_to_in_its_own(
    worker_class: Any, path: Path, client: Client
) -> None:
    with OldWorker(path):
        client.call(Operation.VMM_PING)
    path.unlink(missing_ok=True)
    versions = []

    def answer(server: Any, incoming: Any) -> None:
        versions.append(incoming.version)
        server.reply(incoming, PING)

    with worker_class(path, answer):
        client.call(Operation.VMM_PING)
    assert versions == [PROTOCOL_VERSION]


def test_what_an_older_worker_has_no_words_for_is_refused_here(
    old: OldWorker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "NEW_MEMBERS", {PayloadConfig: frozenset({"initramfs"})})
    client.call(Operation.VM_CREATE, VmConfig(PayloadConfig("/k")))
    assert "initramfs" not in old.received[-1]["body"]["payload"]
    asked = len(old.received)
    with pytest.raises(VmFailure) as caught:
        client.call(Operation.VM_CREATE, VmConfig(PayloadConfig("/k", initramfs="/i")))
    error = caught.value.error
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert error.fields == (FieldError("/payload/initramfs", "not known to this worker"),)
    assert "restart the worker" in error.message
    assert len(old.received) == asked
    assert client.call(Operation.VMM_PING).pid == 1


def test_a_worker_of_another_age_is_told(path: Path, client: Client) -> None:
    for version in (PREVIOUS_VERSION - 1, PROTOCOL_VERSION + 1):
        with OldWorker(path, version=version), pytest.raises(VmFailure) as caught:
            client.call(Operation.VMM_PING)
        assert caught.value.error.code is ErrorCode.PROTOCOL_VERSION
        path.unlink(missing_ok=True)


def test_an_answer_in_another_version_than_the_question_is_no_answer(
    path: Path, client: Client
) -> None:
    with OldWorker(path, answers=PROTOCOL_VERSION), pytest.raises(VmFailure) as caught:
        client.call(Operation.VMM_PING)
    assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


def test_events_of_an_older_worker_are_asked_for_in_its_version(old: OldWorker, path: Path) -> None:
    subscription = Subscription(path)
    query = EventsQuery(BATCH["epoch"], 0, 0)
    try:
        wait_until(lambda: subscription.take() is Change.MADE)
        for _ in range(2):
            subscription.ask(query)
            wait_until(lambda: isinstance(subscription.take(), EventBatch))
    finally:
        subscription.close()
    assert old.versions == [PROTOCOL_VERSION, PREVIOUS_VERSION, PREVIOUS_VERSION]


class Raw:
    """A connection that says what it likes, and sees every member of the answer."""

    def __init__(self, path: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"ipc://{path}")

    def ask(self, **change: object) -> dict[str, Any]:
        request = {"v": PREVIOUS_VERSION, "id": ID, "op": "vmm.ping", "deadline": 1 << 62}
        self._socket.send(msgpack.packb(request | {"context": {}, "body": None} | change))
        answer: dict[str, Any] = msgpack.unpackb(self._socket.recv())
        return answer

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


@pytest.fixture
def raw(worker: object, path: Path) -> Iterator[Raw]:
    del worker
    raw = Raw(path)
    yield raw
    raw.close()


def test_a_worker_answers_in_kind(raw: Raw) -> None:
    now = raw.ask(v=PROTOCOL_VERSION)
    before = raw.ask()
    assert (now["v"], before["v"]) == (PROTOCOL_VERSION, PREVIOUS_VERSION)
    assert now["ok"].keys() - before["ok"].keys() == {"protocol"}


@pytest.mark.parametrize(
    "change", [{"op": "vm.explode"}, {"deadline": -1}, {"deadline": 1}, {"body": [[b"x"] * 70_000]}]
)
def test_a_worker_refuses_in_kind(raw: Raw, change: dict[str, Any]) -> None:
    answer = raw.ask(**change)
    assert (answer["v"], answer["error"].keys() >= {"code"}) == (PREVIOUS_VERSION, True)


@pytest.mark.parametrize(
    ("theirs", "answered"),
    [
        (0, PREVIOUS_VERSION),
        (PREVIOUS_VERSION - 1, PREVIOUS_VERSION),
        (PROTOCOL_VERSION + 1, PROTOCOL_VERSION),
        (1 << 40, PROTOCOL_VERSION),
    ],
)
def test_a_worker_refuses_in_the_nearest_version(raw: Raw, theirs: int, answered: int) -> None:
    answer = raw.ask(v=theirs)
    assert answer["v"] == answered
    assert answer["error"]["code"] == ErrorCode.PROTOCOL_VERSION
    assert f"version {theirs}" in answer["error"]["message"]


def test_errors_reach_an_older_client_in_its_words(
    worker_class: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = {ErrorCode.TOO_MANY_READERS: ErrorCode.HOST_RESOURCE}
    monkeypatch.setattr(history, "NEW_VALUES", new)
    error = VmError(code=ErrorCode.TOO_MANY_READERS, message="full")
    with worker_class(path, lambda server, incoming: server.fail(incoming, error)):
        raw = Raw(path)
        assert raw.ask()["error"]["code"] == "host_resource"
        assert raw.ask(v=PROTOCOL_VERSION)["error"]["code"] == "too_many_readers"
        raw.close()
