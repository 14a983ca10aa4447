# SPDX-License-Identifier: Apache-2.0
"""From an HTTP request to a call of a worker, and from its answer to a response."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote

import falcon

from api_server.authorization import require_resources
from api_server.body import check_media_type, parse_json, read_body
from api_server.call_context import RESPOND_ASYNC, call_context
from api_server.failure import failure
from api_server.query import COMPAT, LENIENT
from api_server.request import Request
from api_server.responses import answer_json
from api_server.routes import Missing, Route
from api_server.services import Services
from api_server.target import worker_of
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.validation import PARSERS

__all__ = ["IGNORED_HEADER", "Handler"]

IGNORED_HEADER = "X-Velum-Ignored"
_MOST_POINTERS = 32
_NOTHING: Any = ({}, None)


class Handler:
    """Answers every request; what differs between routes is in tables."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def __call__(self, req: Request, resp: falcon.Response, **_: object) -> None:
        """Serve one request, as a Falcon sink."""
        route = cast(Route, req.context.route)  # or a middleware has refused the request
        resp.status = route.success
        if isinstance(route.endpoint, Operation):
            self._call(route.endpoint, req, resp)
            return
        document = _document(req)
        if isinstance(route.endpoint, Missing):
            raise failure(
                ErrorCode.NOT_SUPPORTED, f"{req.path}: {route.endpoint.what} is not built yet"
            )
        _refuse_body(req, document)
        route.endpoint(req, resp, self._services)

    def _call(self, operation: Operation, req: Request, resp: falcon.Response) -> None:
        """Have the worker of the VM that the host names do something."""
        worker = worker_of(req, self._services)
        body = _typed_body(req, resp, operation)
        require_resources(req, body)
        context = call_context(req, operation)
        with self._services.turns.take(worker):
            value = self._services.peers.call(worker, operation, body, context=context)
        if context.respond_async:
            resp.status = HTTPStatus.ACCEPTED
            req.context.job = value.id
            resp.set_header("Preference-Applied", RESPOND_ASYNC)
            answer_json(resp, value)
        elif SIGNATURES[operation].result is not None:
            answer_json(resp, value)


def _typed_body(req: Request, resp: falcon.Response, operation: Operation) -> object:
    """Read the body and make of it what the operation takes."""
    expected = SIGNATURES[operation].request
    document = _document(req)
    if expected is None:
        _refuse_body(req, document)
        return None
    if document is None:
        raise failure(ErrorCode.INVALID_REQUEST, f"{req.path} needs a JSON body, and there is none")
    if req.context.query.get(COMPAT.name) != LENIENT:
        return PARSERS[expected](document)
    ignored: list[str] = []
    body = PARSERS[expected](document, ignored=ignored)
    if ignored:
        resp.set_header(IGNORED_HEADER, _pointers(ignored))
    return body


def _pointers(found: list[str]) -> str:
    """Write JSON pointers as a header can have them, in the encoding of RFC 6901 section 6."""
    shown = [quote(pointer) for pointer in found[:_MOST_POINTERS]]
    return ", ".join([*shown, "..."] if len(found) > _MOST_POINTERS else shown)


def _document(req: Request) -> Any:
    """Return the JSON value in the body; ``None`` also for an empty one."""
    body = read_body(req.stream, req.content_length)
    if not body.strip():
        return None
    check_media_type(req.content_type, req.get_header("Content-Encoding"))
    return parse_json(body)


def _refuse_body(req: Request, document: Any) -> None:
    if document not in _NOTHING:
        raise failure(
            ErrorCode.INVALID_REQUEST, f"{req.path} takes no body; send none, or an empty object"
        )
