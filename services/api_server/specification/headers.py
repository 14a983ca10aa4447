# SPDX-License-Identifier: Apache-2.0
"""The headers that mean something here, of requests and of answers."""

from __future__ import annotations

from typing import Any, Final

from api_server import request_ids
from api_server.app import RETRY_AFTER
from api_server.call_context import KEY_HEADER, RESPOND_ASYNC
from api_server.event_text import ID_PATTERN, LAST_EVENT_ID
from api_server.handlers import IGNORED_HEADER
from ipc_protocol.context import IDEMPOTENCY_KEY
from ipc_protocol.schema import Schema

__all__ = ["HEADERS", "OF_JOBS", "PARAMETERS", "PREFERENCE_APPLIED", "answered", "asked"]

PREFERENCE_APPLIED: Final = "Preference-Applied"

HEADERS: Final[dict[str, Any]] = {
    request_ids.HEADER: {
        "description": "The id of the request in every log; the client's own if it sent one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "const": int(RETRY_AFTER)},
    },
    PREFERENCE_APPLIED: {
        "description": "That the job is the answer, because the request preferred it.",
        "required": True,
        "schema": {"type": "string", "const": RESPOND_ASYNC},
    },
    IGNORED_HEADER: {
        "description": "JSON pointers, percent-encoded and separated by commas, of the unknown "
        "fields that were left out; at most 32 and then `...`. Absent if there were none.",
        "schema": {"type": "string"},
    },
}

PARAMETERS: Final[dict[str, Any]] = {
    request_ids.HEADER: {
        "name": request_ids.HEADER,
        "in": "header",
        "description": "What the logs are to call this request: up to 128 letters, digits and "
        "`._:-`. Anything else is replaced.",
        "schema": {"type": "string"},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": f"With `{RESPOND_ASYNC}` (RFC 7240) the answer is 202 with the job as soon "
        "as the operation has its place in the queue; `vmm.jobs` tells what becomes of it. Other "
        "preferences are passed over.",
        "schema": {"type": "string"},
        "example": RESPOND_ASYNC,
    },
    KEY_HEADER: {
        "name": KEY_HEADER,
        "in": "header",
        "description": "Makes a retry safe: while an operation with the same key and body runs, "
        "the request waits for that one; for a day after its success it is answered the same, and "
        "nothing is done again. What failed is tried again. The last 256 successes are known, as "
        "long as the worker lives.",
        "schema": {
            "type": "string",
            "pattern": IDEMPOTENCY_KEY.replace(r"\A", "^").replace(r"\Z", "$"),
        },
    },
    LAST_EVENT_ID: {
        "name": LAST_EVENT_ID,
        "in": "header",
        "description": "The `id` of the last event that the client has; without it the stream "
        "begins with the next event that happens.",
        "schema": {"type": "string", "pattern": f"^{ID_PATTERN}$"},
    },
}

OF_JOBS: Final = ("Prefer", KEY_HEADER)
"""Parameters of what waits for its turn; the others have no use for them."""


def asked(*names: str) -> list[Schema]:
    """Refer to headers of a request."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def answered(*names: str) -> Schema:
    """Refer to headers of an answer, with the one that every answer has."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (request_ids.HEADER, *names)}
