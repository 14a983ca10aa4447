# SPDX-License-Identifier: Apache-2.0
"""The Falcon application: one responder, one error handler, one line of log per request."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

import falcon

from api_server import problem
from api_server.failure import explain, failure
from api_server.handlers import Handler
from api_server.peers import Peers
from ipc_protocol.errors import ErrorCode

__all__ = ["create_app"]

_log = logging.getLogger(__name__)

RETRY_AFTER = "1"
"""Seconds: a worker that is restarted listens again in less."""

# What Falcon itself may refuse before a handler runs.
_HTTP_ERRORS = {
    HTTPStatus.NOT_FOUND: ErrorCode.ROUTE_NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.PAYLOAD_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}


class _RequestLog:
    """Middleware that logs method, target, status and time of every request."""

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        req.context.started = time.perf_counter()

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: object
    ) -> None:
        # The raw target: gunicorn has refused control characters in it, a decoded one has them.
        _log.info(
            "%s %.200s %d %.1f ms host=%.80s",
            req.method,
            req.env["RAW_URI"],
            falcon.http_status_to_code(resp.status),
            (time.perf_counter() - req.context.started) * 1000,
            ascii(req.get_header("Host") or ""),
        )


def _answer_failure(
    _req: falcon.Request, resp: falcon.Response, ex: Exception, _params: object
) -> None:
    if isinstance(ex, falcon.HTTPError):
        code = _HTTP_ERRORS.get(HTTPStatus(ex.status_code), ErrorCode.INVALID_REQUEST)
        ex = failure(code, ex.description or ex.title or "")
    error = explain(ex)
    document = problem.problem(error)
    resp.status = HTTPStatus(document.status)
    resp.content_type = problem.CONTENT_TYPE
    resp.data = problem.encode(document)
    if document.status == HTTPStatus.SERVICE_UNAVAILABLE:
        resp.set_header("Retry-After", RETRY_AFTER)


def create_app(peers: Peers) -> falcon.App[falcon.Request, falcon.Response]:
    """Build the WSGI application that serves these workers."""
    app = falcon.App(middleware=[_RequestLog()], cors_enable=False)
    app.add_sink(Handler(peers), r"")
    for kind in (Exception, falcon.HTTPError):
        app.add_error_handler(kind, _answer_failure)
    return app
