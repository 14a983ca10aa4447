# SPDX-License-Identifier: Apache-2.0
"""What travels: a request ``{v, id, op, deadline, context, body}`` and its reply.

The reply is ``{v, id, ok}`` or ``{v, id, error}``.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgpack
import msgspec

from ipc_protocol import codec
from ipc_protocol.context import NO_CONTEXT, Context
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.validation import PARSERS
from ipc_protocol.version import PROTOCOL_VERSION

__all__ = [
    "EnvelopeFailure",
    "Reply",
    "Request",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "new_id",
]

_ID_BYTES: Final = range(8, 17)
_REQUEST_KEYS: Final = frozenset({"v", "id", "op", "deadline", "context", "body"})
_REPLY_KEYS: Final = frozenset({"v", "id", "ok"}), frozenset({"v", "id", "error"})
_LAST_DEADLINE: Final = (1 << 63) - 1
_SALVAGE_BYTES: Final = 256


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an operation."""

    id: bytes
    """8 to 16 random bytes; the reply repeats them."""
    operation: Operation
    deadline_ns: int
    """When the caller stops waiting: ``CLOCK_MONOTONIC``, the same for both processes."""
    context: Context = NO_CONTEXT
    body: Any = None
    """What the operation's signature says."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: ``error`` if that is set, else ``value``."""

    id: bytes
    value: Any = None
    error: VmError | None = None


class EnvelopeFailure(VmFailure):
    """A message that is refused before anything looks at what it asks for."""

    def __init__(self, correlation: bytes | None, failure: VmFailure) -> None:
        error = failure.error
        super().__init__(error.code, error.message, causes=error.causes, fields=error.fields)
        self.correlation = correlation
        """The id to answer under; ``None`` if the message has none that can be read."""


def new_id() -> bytes:
    """Return a correlation id that no other request has."""
    return os.urandom(16)


def encode_request(request: Request) -> bytes:
    """Return the bytes of a request."""
    return codec.encode(
        {
            "v": PROTOCOL_VERSION,
            "id": request.id,
            "op": request.operation,
            "deadline": request.deadline_ns,
            "context": request.context,
            "body": request.body,
        }
    )


def encode_reply(reply: Reply) -> bytes:
    """Return the bytes of a reply.

    Raises:
        ValueError: When the value is none that can be sent: not the caller's fault, so
            this is no typed failure.
    """
    outcome = {"error": reply.error} if reply.error is not None else {"ok": reply.value}
    try:
        return codec.encode({"v": PROTOCOL_VERSION, "id": reply.id, **outcome}, lossy=True)
    except VmFailure as ex:
        raise ValueError("the reply cannot be sent") from ex


def decode_request(data: bytes) -> Request:
    """Return the request in a message, its body typed and a configuration validated.

    Raises:
        EnvelopeFailure: For anything else, with the id if there is one.
    """
    fields, correlation = _open(data)
    try:
        if fields.keys() != _REQUEST_KEYS:
            raise codec.malformed("a request has v, id, op, deadline, context and body")
        operation = _operation(fields["op"])
        deadline = fields["deadline"]
        if type(deadline) is not int or not 0 <= deadline <= _LAST_DEADLINE:
            raise codec.malformed("its deadline is no time in nanoseconds")
        context = codec.convert(fields["context"], Context)
        body = _body(operation, fields["body"])
    except VmFailure as ex:
        raise EnvelopeFailure(correlation, ex) from ex
    return Request(
        id=correlation, operation=operation, deadline_ns=deadline, context=context, body=body
    )


def decode_reply(data: bytes) -> Reply:
    """Return the reply in a message; its value is not converted yet.

    Raises:
        EnvelopeFailure: For anything else, with the id if there is one.
    """
    fields, correlation = _open(data)
    try:
        if fields.keys() not in _REPLY_KEYS:
            raise codec.malformed("a reply has v, id and either ok or error")
        if "ok" in fields:
            return Reply(id=correlation, value=fields["ok"])
        return Reply(id=correlation, error=codec.convert(fields["error"], VmError))
    except VmFailure as ex:
        raise EnvelopeFailure(correlation, ex) from ex


def _open(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the fields and the id of an envelope of our version."""
    try:
        fields = codec.decode(data)
    except VmFailure as ex:
        raise EnvelopeFailure(_salvage_id(data), ex) from ex
    correlation = _as_id(fields.get("id")) if isinstance(fields, dict) else None
    if correlation is None:
        raise EnvelopeFailure(None, codec.malformed("it has no correlation id"))
    version = fields.get("v")
    if type(version) is not int:
        raise EnvelopeFailure(correlation, codec.malformed("it has no version"))
    if version != PROTOCOL_VERSION:
        message = (
            f"the other process speaks protocol version {version}, this one "
            f"{PROTOCOL_VERSION}: run velum-api and velum-vmm of the same release"
        )
        raise EnvelopeFailure(correlation, VmFailure(ErrorCode.PROTOCOL_VERSION, message))
    return fields, correlation


def _as_id(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and len(value) in _ID_BYTES else None


def _salvage_id(data: bytes) -> bytes | None:
    """Find the id at the start of a message whose rest cannot be decoded."""
    unpacker = msgpack.Unpacker(
        max_array_len=0, max_map_len=0, max_ext_len=0, max_str_len=64, max_bin_len=64
    )
    unpacker.feed(data[:_SALVAGE_BYTES])
    try:
        for _ in range(min(unpacker.read_map_header(), len(_REQUEST_KEYS))):
            key = unpacker.unpack()
            value = unpacker.unpack()
            if key == "id":
                return _as_id(value)
    except (ValueError, msgpack.UnpackException):
        pass  # The id is not among what can be read.
    return None


def _operation(name: object) -> Operation:
    if not isinstance(name, str):
        raise codec.malformed("its operation is no string")
    try:
        return Operation(name)
    except ValueError:
        raise VmFailure(
            ErrorCode.UNKNOWN_OPERATION, f"this worker has no operation {name[:80]!a}"
        ) from None


def _body(operation: Operation, body: object) -> object:
    expected = SIGNATURES[operation].request
    return codec.convert(body, None) if expected is None else PARSERS[expected](body)


codec.prepare(Context, VmError)
