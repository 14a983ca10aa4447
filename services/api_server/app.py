# SPDX-License-Identifier: Apache-2.0
"""The Falcon application: one responder, one error handler, and the middleware around them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import falcon

from api_server import problem
from api_server.audit import Audit
from api_server.authorization import Authorization, Identification
from api_server.failure import explain, failure
from api_server.handlers import Handler
from api_server.metrics.middleware import RequestMetrics
from api_server.request import Request
from api_server.request_ids import RequestIds
from api_server.request_log import RequestLog
from api_server.routes import METRICS, ROUTES
from api_server.routing import Routing
from api_server.services import Services
from ipc_protocol.errors import ErrorCode

__all__ = ["create_app", "create_metrics_app"]

RETRY_AFTER = "1"
"""Seconds: a worker that is restarted listens again in less."""

# What Falcon itself may refuse before a handler runs.
_HTTP_ERRORS = {
    HTTPStatus.NOT_FOUND: ErrorCode.ROUTE_NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.PAYLOAD_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}


def _answer_failure(req: Request, resp: falcon.Response, ex: Exception, _params: object) -> None:
    if isinstance(ex, falcon.HTTPError):
        code = _HTTP_ERRORS.get(HTTPStatus(ex.status_code), ErrorCode.INVALID_REQUEST)
        ex = failure(code, ex.description or ex.title or "")
    error = explain(ex)
    req.context.code = error.code
    document = problem.problem(error, req.context.request_id)
    resp.status = HTTPStatus(document.status)
    resp.content_type = problem.CONTENT_TYPE
    resp.data = problem.encode(document)
    if document.status == HTTPStatus.SERVICE_UNAVAILABLE:
        resp.set_header("Retry-After", RETRY_AFTER)


def create_app(services: Services) -> falcon.App[Request, falcon.Response]:
    """Build the WSGI application that answers from these."""
    return _app(
        services,
        RequestMetrics(services.metrics),
        RequestIds(),
        RequestLog(),
        Audit(services.audit),
        Identification(services.access),
        Routing(ROUTES),
        Authorization(),
    )


def create_metrics_app(services: Services) -> falcon.App[Request, falcon.Response]:
    """Build the application for whoever may know the metrics and do nothing.

    No other route is in it, so that who may connect is all there is to decide.
    """
    return _app(
        services,
        RequestMetrics(services.metrics),
        RequestIds(),
        RequestLog(),
        Routing({METRICS: ROUTES[METRICS]}),
    )


def _app(services: Services, *middlewares: Any) -> falcon.App[Request, falcon.Response]:
    app = falcon.App(request_type=Request, cors_enable=False)
    # Before an answer they run in this order, after it in the reverse one.
    for middleware in middlewares:
        app.add_middleware(middleware)
    app.add_sink(Handler(services), r"")
    for kind in (Exception, falcon.HTTPError):
        app.add_error_handler(kind, _answer_failure)
    return app
