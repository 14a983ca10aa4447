# SPDX-License-Identifier: Apache-2.0
"""What a request says about how it is to be done, beside what: preferences, key, trial."""

from __future__ import annotations

import re
from typing import Final

from api_server.failure import failure
from api_server.query import DRY_RUN
from api_server.request import Request
from ipc_protocol.context import IDEMPOTENCY_KEY, Context
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import SIGNATURES, Operation

__all__ = ["KEY_HEADER", "RESPOND_ASYNC", "call_context"]

KEY_HEADER: Final = "Idempotency-Key"
RESPOND_ASYNC: Final = "respond-async"

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def call_context(req: Request, operation: Operation) -> Context:
    """Return the context in which a worker is asked to do what a request is for.

    What is answered at once anyway is nothing to wait for elsewhere, or to repeat by a key:
    the preference is not applied there, which its answer shows (RFC 7240 section 3).
    """
    is_job = SIGNATURES[operation].is_job
    key = req.get_header(KEY_HEADER)
    if key is not None and not re.search(IDEMPOTENCY_KEY, key):
        raise failure(
            ErrorCode.INVALID_REQUEST,
            f"the header {KEY_HEADER} is 1 to 255 visible ASCII characters without spaces",
        )
    return Context(
        request_id=req.context.request_id,
        idempotency_key=key if is_job else None,
        respond_async=is_job and _prefers_async(req.get_header("Prefer") or ""),
        dry_run=req.context.query.get(DRY_RUN.name) == "true",
    )


def _prefers_async(header: str) -> bool:
    """Look for a preference (RFC 7240 section 2); its value and parameters are none of ours."""
    preferences = _QUOTED.sub("", header).split(",")
    names = (re.split("[=;]", each, maxsplit=1)[0].strip() for each in preferences)
    return any(name.lower() == RESPOND_ASYNC for name in names)
