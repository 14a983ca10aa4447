# SPDX-License-Identifier: Apache-2.0
"""A request, and what is found out about it on its way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

import falcon
from falcon.util.structures import Context

from api_server.roles import Peer
from api_server.routes import Route
from ipc_protocol.errors import ErrorCode

__all__ = ["Request", "RequestContext"]


class RequestContext(Context):
    """Whole from the start: Falcon may refuse a request before any middleware has seen it."""

    request_id: str = ""
    peer: Peer | None = None
    """Who sent it; not set only where it was refused before that was known."""
    route: Route | None = None
    query: Mapping[str, str] = MappingProxyType({})
    """Every query parameter of the route."""
    vm: str | None = None
    """The name of the VM it is for, if it is for one."""
    job: str | None = None
    """The id of what goes on after the answer."""
    code: ErrorCode | None = None
    """Why it was refused."""

    def __init__(self) -> None:
        self.started = time.perf_counter()


class Request(falcon.Request):
    """A request whose context is typed."""

    context_type = RequestContext
    context: RequestContext
