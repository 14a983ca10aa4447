# SPDX-License-Identifier: Apache-2.0
"""Each request's peer, its role, and whether that is enough for what it asks."""

from __future__ import annotations

from typing import cast

import falcon

from api_server.access import Access
from api_server.credentials import credentials_of, user_name
from api_server.failure import failure
from api_server.request import Request
from api_server.roles import Peer, Role
from api_server.routes import PREFIX, Route
from ipc_protocol.errors import ErrorCode, FieldError
from ipc_protocol.host_resources import host_resources

__all__ = ["Authorization", "Identification", "require_resources"]


class Identification:
    """Middleware that finds out who asks, before anything is read of what is asked."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: Request, _resp: falcon.Response) -> None:
        """Refuse a peer that has no role."""
        credentials = credentials_of(req.env["gunicorn.socket"])
        peer = Peer(credentials, user_name(credentials.uid), self._access.role(credentials))
        req.context.peer = peer
        if peer.role is None:
            raise failure(
                ErrorCode.FORBIDDEN,
                f"{peer} may not use this API: an administrator of this host gives roles to "
                f"users and groups in {self._access.path}",
            )


class Authorization:
    """Middleware that refuses a peer whose role is less than the route asks for."""

    def process_request(self, req: Request, _resp: falcon.Response) -> None:
        """Compare the two, which were found before."""
        peer, route = cast(Peer, req.context.peer), cast(Route, req.context.route)
        if peer.role is None or peer.role < route.role:
            name = req.path.removeprefix(PREFIX)
            message = f"{peer} may not do {name}: that takes the role {route.role}"
            raise failure(ErrorCode.FORBIDDEN, message)


def require_resources(req: Request, body: object) -> None:
    """Refuse a body that names something of the host, unless it is an administrator's.

    The worker would open what the peer itself may not.

    Raises:
        ApiFailure: ``forbidden``, with every such field.
    """
    peer = cast(Peer, req.context.peer)
    if peer.role is Role.ADMIN:
        return
    reason = f"names something of the host: that takes the role {Role.ADMIN}"
    named = tuple(FieldError(pointer, reason) for pointer in host_resources(body))
    if named:
        name = req.path.removeprefix(PREFIX)
        more = f" (and {len(named) - 1} more)" if named[1:] else ""
        message = f"{peer} may not do {name} like this: {named[0].pointer} {reason}{more}"
        raise failure(ErrorCode.FORBIDDEN, message, fields=named)
