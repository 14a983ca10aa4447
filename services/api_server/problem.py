# SPDX-License-Identifier: Apache-2.0
"""The body of every answer that is an error: RFC 9457 problem details."""

from __future__ import annotations

import msgspec

from api_server.status import STATUS
from ipc_protocol.errors import ApiError, ErrorCode, FieldError

__all__ = ["CONTENT_TYPE", "Problem", "encode", "problem"]

CONTENT_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The members of the document, in the order in which they are sent."""

    type: str = "about:blank"
    """Always that, so ``title`` is the status's own phrase (RFC 9457 section 4.2.1)."""
    title: str
    status: int
    detail: str
    code: ErrorCode
    """What clients switch on; this and all that follows are extension members."""
    causes: tuple[str, ...]
    errors: tuple[FieldError, ...]
    request_id: str
    """What the header ``X-Request-Id`` says too, and every log line about the request."""
    reference: str | msgspec.UnsetType = msgspec.UNSET


def problem(error: ApiError, request_id: str) -> Problem:
    """Translate an error into the document about it, for the request of that id."""
    status = STATUS[error.code]
    return Problem(
        title=status.phrase,
        status=status,
        detail=error.message,
        code=error.code,
        causes=error.causes,
        errors=error.fields,
        request_id=request_id,
        reference=msgspec.UNSET if error.reference is None else error.reference,
    )


def encode(document: Problem) -> bytes:
    """Encode a document for the wire."""
    return msgspec.json.encode(document)
