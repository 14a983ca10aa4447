# SPDX-License-Identifier: Apache-2.0
"""Counts every request that reached the application."""

from __future__ import annotations

import time

import falcon

from api_server.metrics.own import OTHER, ApiMetrics
from api_server.request import Request

__all__ = ["RequestMetrics"]


class RequestMetrics:
    """Middleware."""

    def __init__(self, metrics: ApiMetrics) -> None:
        self._metrics = metrics

    def process_response(
        self,
        req: Request,
        resp: falcon.Response,
        _resource: object,
        _succeeded: bool,  # noqa: FBT001 - Falcon's
    ) -> None:
        """Count one, by the route that was found."""
        found = req.context.route is not None
        self._metrics.note_request(
            req.method if found else OTHER,
            req.path if found else OTHER,
            falcon.http_status_to_code(resp.status),
            time.perf_counter() - req.context.started,
        )
