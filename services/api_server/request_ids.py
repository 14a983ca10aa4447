# SPDX-License-Identifier: Apache-2.0
"""The id by which one request is found in every log: taken from its client, or made."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar

import falcon

from api_server.request import Request

__all__ = ["HEADER", "RequestIds", "current_id", "made"]

HEADER = "X-Request-Id"

_TAKEN = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_current: ContextVar[str] = ContextVar("request_id", default="")


def current_id() -> str:
    """Return the id of the request that this thread serves, or nothing."""
    return _current.get()


@contextlib.contextmanager
def made() -> Iterator[str]:
    """Make an id for what did not become a request, and log under it meanwhile."""
    request_id = secrets.token_hex(8)
    token = _current.set(request_id)
    try:
        yield request_id
    finally:
        _current.reset(token)


class RequestIds:
    """Middleware: the first, so that all others have the id. It goes back on every answer."""

    def process_request(self, req: Request, resp: falcon.Response) -> None:
        """Take or make the id; what would not be safe in a log is not taken."""
        given = req.get_header(HEADER) or ""
        request_id = given if _TAKEN.fullmatch(given) else secrets.token_hex(8)
        req.context.request_id = request_id
        _current.set(request_id)
        resp.set_header(HEADER, request_id)

    def process_response(
        self,
        _req: Request,
        _resp: falcon.Response,
        _resource: object,
        _succeeded: bool,  # noqa: FBT001 - Falcon's
    ) -> None:
        """Let the thread go without an id; what it logs next is about no request."""
        _current.set("")
