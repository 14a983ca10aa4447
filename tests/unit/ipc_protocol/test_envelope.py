# SPDX-License-Identifier: Apache-2.0
"""Envelopes: every message round-trips, and whatever is wrong is told under the right id."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc_protocol import codec, envelope
from ipc_protocol.context import Context
from ipc_protocol.envelope import EnvelopeFailure, Reply, Request
from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.version import PROTOCOL_VERSION
from tests.unit.ipc_protocol.strategies import PLAIN, values_of

ID = b"0123456789abcdef"
IDS = st.binary(min_size=8, max_size=16)
DEADLINES = st.integers(0, (1 << 63) - 1)
GOOD: dict[str, Any] = {
    "v": PROTOCOL_VERSION,
    "id": ID,
    "op": "vmm.ping",
    "deadline": 1,
    "context": {},
    "body": None,
}


def request_failure(message: object) -> EnvelopeFailure:
    data = message if isinstance(message, bytes) else msgpack.packb(message)
    with pytest.raises(EnvelopeFailure) as caught:
        envelope.decode_request(data)
    return caught.value


@pytest.mark.parametrize("operation", list(Operation))
@given(st.data())
def test_requests_round_trip(operation: Operation, data: st.DataObject) -> None:
    request = Request(
        id=data.draw(IDS),
        operation=operation,
        deadline_ns=data.draw(DEADLINES),
        context=data.draw(values_of(Context)),
        body=data.draw(values_of(SIGNATURES[operation].request)),
    )
    assert envelope.decode_request(envelope.encode_request(request)) == request


@pytest.mark.parametrize("operation", list(Operation))
@given(st.data())
def test_values_round_trip(operation: Operation, data: st.DataObject) -> None:
    result = SIGNATURES[operation].result
    reply = Reply(id=data.draw(IDS), value=data.draw(values_of(result)))
    arrived = envelope.decode_reply(envelope.encode_reply(reply))
    assert arrived.error is None
    assert arrived.id == reply.id
    assert codec.convert(arrived.value, result) == reply.value


@given(IDS, values_of(VmError))
def test_errors_round_trip(correlation: bytes, error: VmError) -> None:
    reply = Reply(id=correlation, error=error)
    assert envelope.decode_reply(envelope.encode_reply(reply)) == reply


@given(st.binary(max_size=100) | PLAIN.map(msgpack.packb))
def test_anything_else_is_refused_without_an_id(data: bytes) -> None:
    for decode in (envelope.decode_request, envelope.decode_reply):
        with pytest.raises(EnvelopeFailure) as caught:
            decode(data)
        assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


@given(st.sampled_from(sorted(GOOD)), PLAIN)
def test_one_wrong_field_is_refused_or_harmless(key: str, value: object) -> None:
    data = msgpack.packb(GOOD | {key: value})
    with contextlib.suppress(EnvelopeFailure):
        assert envelope.decode_request(data).operation is Operation.VMM_PING
        return
    correlation = request_failure(data).correlation
    assert (correlation == ID) == (key != "id")


@pytest.mark.parametrize("version", [0, 1, PROTOCOL_VERSION + 1, 1 << 40])
def test_another_version_is_told_so(version: int) -> None:
    failure = request_failure(GOOD | {"v": version, "op": "from the future"})
    assert failure.correlation == ID
    assert failure.error.code is ErrorCode.PROTOCOL_VERSION
    assert f"version {version}" in failure.error.message


def test_an_unknown_operation_is_told_so() -> None:
    failure = request_failure(GOOD | {"op": "vm.explode"})
    assert failure.correlation == ID
    assert failure.error.code is ErrorCode.UNKNOWN_OPERATION
    assert "vm.explode" in failure.error.message


@pytest.mark.parametrize(
    "change",
    [
        {"v": None},
        {"v": True},
        {"v": "1"},
        {"op": 5},
        {"op": None},
        {"deadline": -1},
        {"deadline": 1.5},
        {"deadline": True},
        {"deadline": 1 << 63},
        {"context": None},
        {"context": {"extra": 1}},
        {"context": {"respond_async": 1}},
        {"context": {"request_id": "two\nlines"}},
        {"context": {"request_id": "x\n"}},
        {"context": {"request_id": "x" * 129}},
        {"context": {"idempotency_key": ""}},
        {"context": {"idempotency_key": "a b"}},
        {"context": {"idempotency_key": "x" * 256}},
        {"body": {}},
        {"extra": 1},
    ],
)
def test_malformed_fields_are_told_under_the_id(change: dict[str, object]) -> None:
    failure = request_failure(GOOD | change)
    assert failure.correlation == ID
    assert failure.error.code is ErrorCode.MALFORMED_MESSAGE


@pytest.mark.parametrize("key", ["op", "deadline", "context", "body", "v"])
def test_a_missing_field_is_told_under_the_id(key: str) -> None:
    failure = request_failure({name: value for name, value in GOOD.items() if name != key})
    assert failure.correlation == ID
    assert failure.error.code is ErrorCode.MALFORMED_MESSAGE


@pytest.mark.parametrize("correlation", [None, b"short", b"x" * 17, "0123456789abcdef", 5])
def test_without_an_id_there_is_nothing_to_answer_to(correlation: object) -> None:
    assert request_failure(GOOD | {"id": correlation}).correlation is None


def test_the_id_of_a_bomb_is_found() -> None:
    head = msgpack.packb(GOOD)[: -len(b"\xa4body\xc0")]
    for body in (b"\x91" * 1000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xc1", b"", b"\xc7\x01\x05x"):
        failure = request_failure(head + b"\xa4body" + body)
        assert failure.correlation == ID
        assert failure.error.code is ErrorCode.MALFORMED_MESSAGE
    bomb_first = {"body": 0, "id": ID}
    data = msgpack.packb(bomb_first).replace(b"\x00", b"\x91" * 1000, 1)
    assert request_failure(data).correlation is None


def test_a_bad_configuration_is_told_field_by_field() -> None:
    body = {"payload": {}, "memory": {"size": 1}}
    failure = request_failure(GOOD | {"op": "vm.create", "body": body})
    assert failure.correlation == ID
    assert failure.error.code is ErrorCode.INVALID_CONFIG
    assert {each.pointer for each in failure.error.fields} == {"/payload/kernel", "/memory/size"}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"ok": 1, "error": None},
        {"error": None},
        {"error": {"code": "no_such_code", "message": ""}},
        {"error": {"code": "internal"}},
    ],
)
def test_a_reply_is_a_value_or_an_error(message: dict[str, object]) -> None:
    with pytest.raises(EnvelopeFailure) as caught:
        envelope.decode_reply(msgpack.packb({"v": PROTOCOL_VERSION, "id": ID, **message}))
    assert caught.value.correlation == ID
    assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


def test_a_reply_that_cannot_be_sent_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        envelope.encode_reply(Reply(id=ID, value=object()))


def test_ids_differ() -> None:
    assert len({envelope.new_id() for _ in range(1000)}) == 1000
