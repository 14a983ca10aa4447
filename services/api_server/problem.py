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
    reference: str | msgspec.UnsetType = msgspec.UNSET


def problem(error: ApiError) -> Problem:
    """Translate an error into the document about it."""
    status = STATUS[error.code]
    return Problem(
        title=status.phrase,
        status=status,
        detail=error.message,
        code=error.code,
        causes=error.causes,
        errors=error.fields,
        reference=msgspec.UNSET if error.reference is None else error.reference,
    )


def encode(document: Problem) -> bytes:
    """Encode a document for the wire."""
    return msgspec.json.encode(document)
