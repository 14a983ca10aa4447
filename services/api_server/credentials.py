# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, as the kernel knows it."""

from __future__ import annotations

import errno
import functools
import logging
import pwd
import socket
import struct
from typing import NamedTuple

__all__ = ["Credentials", "credentials_of", "user_name"]

_log = logging.getLogger(__name__)

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59
"""asm-generic/socket.h; the socket module does not name it."""
_MAX_BYTES = 1024
"""The most that getsockopt() of Python returns: 256 groups."""


class Credentials(NamedTuple):
    """What a process had when it connected; what it has become since does not count."""

    pid: int
    uid: int
    """The effective one."""
    gid: int
    groups: tuple[int, ...] = ()
    """The supplementary ones."""


def credentials_of(connection: socket.socket) -> Credentials:
    """Ask the kernel who connected (unix(7), SO_PEERCRED)."""
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(ucred)
    return Credentials(pid, uid, gid, _groups_of(connection, uid))


def _groups_of(connection: socket.socket, uid: int) -> tuple[int, ...]:
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_BYTES)
    except OSError as ex:
        if ex.errno != errno.ERANGE:
            raise
        _log.warning(
            "user %d is in more than %d groups: only the primary one counts", uid, _MAX_BYTES // 4
        )
        return ()
    return struct.unpack(f"={len(data) // 4}I", data)


@functools.lru_cache(maxsize=1024)
def user_name(uid: int) -> str | None:
    """Return the name of a user, if it has one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
