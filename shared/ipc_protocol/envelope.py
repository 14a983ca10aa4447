# SPDX-License-Identifier: Apache-2.0
"""What travels: a request ``{v, id, op, deadline, context, body}`` and its reply.

The reply is ``{v, id, ok}`` or ``{v, id, error}``, and in the version of the request. Who gets a
request of a version that it does not speak refuses it in the nearest one that it does.
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

import msgpack
import msgspec

from ipc_protocol import codec
from ipc_protocol.context import NO_CONTEXT, Context
from ipc_protocol.errors import ErrorCode, FieldError, VmError, VmFailure
from ipc_protocol.history import previous_form
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.validation import PARSERS
from ipc_protocol.version import PREVIOUS_VERSION, PROTOCOL_VERSION, SPOKEN

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
    version: int = PROTOCOL_VERSION


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: ``error`` if that is set, else ``value``."""

    id: bytes
    value: Any = None
    error: VmError | None = None
    version: int = PROTOCOL_VERSION

    @property
    def falls_back(self) -> bool:
        """Whether it refuses our version, and does so in one that we speak as well."""
        refused = self.error is not None and self.error.code is ErrorCode.PROTOCOL_VERSION
        return refused and self.version == PREVIOUS_VERSION


class EnvelopeFailure(VmFailure):
    """A message that is refused before anything looks at what it asks for."""

    def __init__(
        self, correlation: bytes | None, failure: VmFailure, version: int = PROTOCOL_VERSION
    ) -> None:
        error = failure.error
        super().__init__(error.code, error.message, causes=error.causes, fields=error.fields)
        self.correlation = correlation
        """The id to answer under; ``None`` if the message has none that can be read."""
        self.version = version
        """The version to answer in."""


class _Opened(NamedTuple):
    """An envelope of a version that we speak."""

    fields: dict[str, Any]
    correlation: bytes
    version: int


def new_id() -> bytes:
    """Return a correlation id that no other request has."""
    return os.urandom(16)


def encode_request(request: Request) -> bytes:
    """Return the bytes of a request.

    Raises:
        VmFailure: ``malformed_message`` for what cannot be sent; ``not_supported`` for what the
            request's version has no words for.
    """
    context, body = request.context, request.body
    if request.version == PREVIOUS_VERSION:
        context, body = _in_previous_version(request)
    return codec.encode(
        {
            "v": request.version,
            "id": request.id,
            "op": request.operation,
            "deadline": request.deadline_ns,
            "context": context,
            "body": body,
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
        if reply.version == PREVIOUS_VERSION:
            # Who asks in the previous version does not miss what it has never heard of.
            outcome, _ = previous_form(outcome)
        return codec.encode({"v": reply.version, "id": reply.id, **outcome}, lossy=True)
    except VmFailure as ex:
        raise ValueError("the reply cannot be sent") from ex


def decode_request(data: bytes) -> Request:
    """Return the request in a message, its body typed and a configuration validated.

    Raises:
        EnvelopeFailure: For anything else, with the id if there is one.
    """
    fields, correlation, version = _open(data)
    try:
        if fields.keys() != _REQUEST_KEYS:
            raise codec.malformed("a request has v, id, op, deadline, context and body")
        operation = _operation(fields["op"])
        deadline = fields["deadline"]
        if type(deadline) is not int or not 0 <= deadline <= _LAST_DEADLINE:
            raise codec.malformed("its deadline is no time in nanoseconds")
        return Request(
            id=correlation,
            operation=operation,
            deadline_ns=deadline,
            context=codec.convert(fields["context"], Context),
            body=_body(operation, fields["body"]),
            version=version,
        )
    except VmFailure as ex:
        raise EnvelopeFailure(correlation, ex, version) from ex


def decode_reply(data: bytes) -> Reply:
    """Return the reply in a message; its value is not converted yet.

    Raises:
        EnvelopeFailure: For anything else, with the id if there is one.
    """
    fields, correlation, version = _open(data)
    try:
        if fields.keys() not in _REPLY_KEYS:
            raise codec.malformed("a reply has v, id and either ok or error")
        if "ok" in fields:
            return Reply(id=correlation, value=fields["ok"], version=version)
        error = codec.convert(fields["error"], VmError)
        return Reply(id=correlation, error=error, version=version)
    except VmFailure as ex:
        raise EnvelopeFailure(correlation, ex, version) from ex


def _in_previous_version(request: Request) -> tuple[Any, Any]:
    """Return the context and the body of a request that has nothing new in them."""
    context, unheard = previous_form(request.context)
    body, unknown = previous_form(request.body)
    if unheard or unknown:
        what = ", ".join((*(f"the call's {pointer[1:]}" for pointer in unheard), *unknown))
        message = (
            f"the VM's worker is of the release before and does not know {what}: leave that out, "
            "or restart the worker, which ends its guest, to have it run the new release"
        )
        fields = tuple(FieldError(pointer, "not known to this worker") for pointer in unknown)
        raise VmFailure(ErrorCode.NOT_SUPPORTED, message, fields=fields)
    return context, body


def _open(data: bytes) -> _Opened:
    """Return the fields and the id of an envelope of a version that we speak."""
    try:
        fields = codec.decode(data)
    except VmFailure as ex:
        raise EnvelopeFailure(*_salvage(data, ex)) from ex
    correlation = _as_id(fields.get("id")) if isinstance(fields, dict) else None
    if correlation is None:
        raise EnvelopeFailure(None, codec.malformed("it has no correlation id"))
    version = fields.get("v")
    if type(version) is not int:
        raise EnvelopeFailure(correlation, codec.malformed("it has no version"))
    if version not in SPOKEN:
        message = (
            f"the other process speaks protocol version {version}, this one "
            f"{' and '.join(map(str, SPOKEN))}: run velum-api and velum-vmm of the same release, "
            "or of two that follow each other"
        )
        refusal = VmFailure(ErrorCode.PROTOCOL_VERSION, message)
        raise EnvelopeFailure(correlation, refusal, _nearest(version))
    return _Opened(fields, correlation, version)


def _nearest(version: int) -> int:
    return max(PREVIOUS_VERSION, min(version, PROTOCOL_VERSION))


def _as_id(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and len(value) in _ID_BYTES else None


def _salvage(data: bytes, failure: VmFailure) -> tuple[bytes | None, VmFailure, int]:
    """Find id and version at the start of a message whose rest cannot be decoded."""
    unpacker = msgpack.Unpacker(
        max_array_len=0, max_map_len=0, max_ext_len=0, max_str_len=64, max_bin_len=64
    )
    unpacker.feed(data[:_SALVAGE_BYTES])
    found: dict[str, object] = {}
    try:
        for _ in range(min(unpacker.read_map_header(), len(_REQUEST_KEYS))):
            key = unpacker.unpack()
            found[str(key)] = unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        pass  # There is no more that can be read.
    version = found.get("v")
    nearest = _nearest(version) if isinstance(version, int) else PROTOCOL_VERSION
    return _as_id(found.get("id")), failure, nearest


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
