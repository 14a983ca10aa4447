# SPDX-License-Identifier: Apache-2.0
"""Middleware that finds what a request asks for, before anyone judges who asks."""

from __future__ import annotations

from collections.abc import Mapping

import falcon

from api_server.failure import failure
from api_server.query import read_query
from api_server.request import Request
from api_server.routes import Route
from ipc_protocol.errors import ErrorCode

__all__ = ["Routing"]


class Routing:
    """Sets ``req.context.route`` and ``req.context.query``."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes

    def process_request(self, req: Request, resp: falcon.Response) -> None:
        """Refuse what this API does not have."""
        route = self._find(req, resp)
        req.context.route = route
        req.context.query = read_query(req.query_string, route.query)

    def _find(self, req: Request, resp: falcon.Response) -> Route:
        route = self._routes.get(req.path)
        if route is None:
            path = ascii(req.path[:120])
            raise failure(ErrorCode.ROUTE_NOT_FOUND, f"there is no {path} in this API")
        if req.method not in route.methods:
            resp.set_header("Allow", ", ".join(route.methods))
            raise failure(
                ErrorCode.METHOD_NOT_ALLOWED, f"{req.path} takes {route.method}, not {req.method}"
            )
        return route
