# SPDX-License-Identifier: Apache-2.0
"""Who may do what: each request's peer, its role, and whether that is enough."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import NamedTuple

import falcon

from api_server.credentials import Credentials, credentials_of, user_name
from api_server.failure import failure
from api_server.policy import Policy, default_policy, read_policy
from api_server.roles import Role
from api_server.routes import ROUTES, Route
from ipc_protocol.errors import ApiFailure, ErrorCode, FieldError
from ipc_protocol.host_paths import host_paths

__all__ = ["DEFAULT_PATH", "Access", "AccessControl", "Peer", "require", "require_paths"]

_log = logging.getLogger(__name__)

DEFAULT_PATH = Path("/etc/velum/access.toml")

_Version = tuple[int, int, int, int]


class Peer(NamedTuple):
    """Who sent a request."""

    credentials: Credentials
    user: str | None
    """The user's name, if it has one."""
    role: Role | None

    def __str__(self) -> str:
        name = f"user {self.user or self.credentials.uid}"
        return f"{name}, who is {self.role}," if self.role else f"{name}, who has no role,"


class Access:
    """The access file as it is now: a change of it counts from the next request on.

    Args:
        path: The file; it has to be there.
        optional: Whether the default holds while there is none.

    Raises:
        ApiFailure: The file is of no use.
    """

    def __init__(self, path: Path = DEFAULT_PATH, *, optional: bool = True) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = _version(path)
        missing = optional and self._version is None
        self._policy = default_policy() if missing else read_policy(path)

    def role(self, credentials: Credentials) -> Role | None:
        """Return the role of a peer."""
        version = _version(self._path)
        if version != self._version:
            self._reload(version)
        return self._policy.role(credentials)

    def _reload(self, version: _Version | None) -> None:
        """Read the file anew; what is of no use, or gone, leaves all as it was."""
        with self._lock:
            if version == self._version:
                return
            self._version = version
            try:
                self._policy = read_policy(self._path)
            except ApiFailure as ex:
                _log.error("%s; what it said before still holds", ex)  # noqa: TRY400
            else:
                _log.info("the access file %s was read anew", self._path)


class AccessControl:
    """Middleware: says who sent a request, and ends it if that peer's role is not enough."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Find out who asks before anything is read of what is asked."""
        credentials = credentials_of(req.env["gunicorn.socket"])
        peer = Peer(credentials, user_name(credentials.uid), self._access.role(credentials))
        route = ROUTES.get(req.path)
        req.context.peer = peer
        req.context.route = route
        if peer.role is None:
            message = f"{peer} may not use this API: its administrator gives roles in the access"
            raise failure(ErrorCode.FORBIDDEN, f"{message} file")
        if route is not None:
            require(peer, route)


def require(peer: Peer, route: Route) -> None:
    """Refuse a peer whose role is less than a route asks for.

    Raises:
        ApiFailure: ``forbidden``.
    """
    if peer.role is None or peer.role < route.role:
        message = f"{peer} may not do {route.name}: that takes the role {route.role}"
        raise failure(ErrorCode.FORBIDDEN, message)


def require_paths(peer: Peer, route: Route, body: object) -> None:
    """Refuse a peer that names files of the host without being an administrator.

    What is on the host is not for everybody to give to a guest: a worker may open what the
    peer may not.

    Raises:
        ApiFailure: ``forbidden``, with every such field.
    """
    if peer.role is Role.ADMIN:
        return
    named = tuple(
        FieldError(pointer, f"names a file of the host: that takes the role {Role.ADMIN}")
        for pointer in host_paths(body)
    )
    if named:
        message = f"{peer} may not do {route.name} with files of the host: {named[0].pointer}"
        more = f" (and {len(named) - 1} more)" if named[1:] else ""
        raise failure(ErrorCode.FORBIDDEN, message + more, fields=named)


def _version(path: Path) -> _Version | None:
    """Return what changes when a file does, if it is there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once for every request
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
