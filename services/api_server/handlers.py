# SPDX-License-Identifier: Apache-2.0
"""From an HTTP request to a call of a worker, and from its answer to a response."""

from __future__ import annotations

from typing import Any

import falcon
import msgspec

from api_server.body import check_media_type, parse_json, read_body
from api_server.failure import failure
from api_server.hosts import authority
from api_server.peers import Peers
from api_server.routes import NOT_BUILT, ROUTES, Route
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import SIGNATURES
from ipc_protocol.validation import PARSERS

__all__ = ["Handler"]


class Handler:
    """Answers every request; what differs between operations is in tables."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def __call__(self, req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        """Serve one request, as a Falcon sink."""
        route = _find_route(req, resp)
        target: str = req.env["RAW_URI"]
        peer = self._peers.locate(authority(target, req.get_header("Host")))
        body = _typed_body(req, route)
        value = self._peers.call(peer, route.operation, body)
        resp.status = route.success
        if SIGNATURES[route.operation].result is not None:
            resp.content_type = falcon.MEDIA_JSON
            resp.data = msgspec.json.encode(_without_nulls(msgspec.to_builtins(value)))


def _find_route(req: falcon.Request, resp: falcon.Response) -> Route:
    route = ROUTES.get(req.path)
    if route is None:
        path = ascii(req.path[:120])
        if req.path in NOT_BUILT:
            raise failure(ErrorCode.NOT_SUPPORTED, f"{path} is not built yet")
        raise failure(ErrorCode.ROUTE_NOT_FOUND, f"there is no {path} in this API")
    if req.method not in route.methods:
        resp.set_header("Allow", ", ".join(route.methods))
        raise failure(
            ErrorCode.METHOD_NOT_ALLOWED, f"{req.path} takes {route.method}, not {req.method}"
        )
    return route


def _typed_body(req: falcon.Request, route: Route) -> object:
    """Read the body and make of it what the operation takes."""
    body = read_body(req.stream, req.content_length)
    expected = SIGNATURES[route.operation].request
    if not body.strip():
        if expected is None:
            return None
        raise failure(ErrorCode.INVALID_REQUEST, f"{req.path} needs a JSON body, and there is none")
    check_media_type(req.content_type, req.get_header("Content-Encoding"))
    document: Any = parse_json(body)
    if expected is not None:
        return PARSERS[expected](document)
    if document not in ({}, None):
        raise failure(
            ErrorCode.INVALID_REQUEST, f"{req.path} takes no body; send none, or an empty object"
        )
    return None


def _without_nulls(value: Any) -> Any:
    """Leave out what is not set, as the specification's server does: absent, not null."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
