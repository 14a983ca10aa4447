# SPDX-License-Identifier: Apache-2.0
"""Which role a user or group has: a file of three tables, or the default without one.

::

    [admin]
    users = ["root"]
    groups = ["velum"]

    [operator]
    groups = ["vm-operators"]

    [viewer]
    users = ["prometheus", 1003]
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from api_server.credentials import Credentials
from api_server.failure import failure
from api_server.roles import Role
from ipc_protocol.errors import ApiFailure, ErrorCode

__all__ = ["Policy", "default_policy", "read_policy"]

_log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20
DEFAULT_GROUP = "velum"


class Policy(NamedTuple):
    """What decides."""

    users: Mapping[int, Role]
    groups: Mapping[int, Role]

    def role(self, credentials: Credentials) -> Role | None:
        """Return the highest role that a peer has by its user or any of its groups."""
        roles = [
            self.users.get(credentials.uid),
            *map(self.groups.get, (credentials.gid, *credentials.groups)),
        ]
        return max((role for role in roles if role is not None), default=None)


class _Members(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who has a role; by name, or by number."""

    users: tuple[str | int, ...] = ()
    groups: tuple[str | int, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    admin: _Members = _Members()
    operator: _Members = _Members()
    viewer: _Members = _Members()


def default_policy() -> Policy:
    """Return what holds without a file: root, the group ``velum``, and our own user.

    Our own user loses nothing to itself: it may connect to the workers without us.
    """
    groups = {}
    try:
        groups[grp.getgrnam(DEFAULT_GROUP).gr_gid] = Role.ADMIN
    except KeyError:
        _log.debug("there is no group %s", DEFAULT_GROUP)
    return Policy({0: Role.ADMIN, os.geteuid(): Role.ADMIN}, groups)


def read_policy(path: Path) -> Policy:
    """Read the file.

    Raises:
        ApiFailure: ``file_unavailable`` or ``invalid_config``; it says what to do.
    """
    content = _read(path)
    try:
        file = msgspec.convert(tomllib.loads(content.decode()), _File)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as ex:
        raise _refuse(path, f"it is not valid: {ex}") from ex
    users: dict[int, Role] = {}
    groups: dict[int, Role] = {}
    for role in Role:
        members: _Members = getattr(file, str(role))
        # Roles come from the least to the most: who is in two has the higher one.
        users.update(dict.fromkeys(_numbers(path, "user", members.users, _user), role))
        groups.update(dict.fromkeys(_numbers(path, "group", members.groups, _group), role))
    return Policy(users, groups)


def _read(path: Path) -> bytes:
    """Read a file that nobody but root or we ourselves could have written."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                raise _refuse(
                    path,
                    f"others could have written it (mode {stat.S_IMODE(status.st_mode):o}, "
                    f"uid {status.st_uid}): chown it to root, and chmod it to 644",
                )
            content = file.read(_MAX_BYTES + 1)
    except OSError as ex:
        message = f"the access file {path} cannot be read: {ex.strerror}"
        raise failure(ErrorCode.FILE_UNAVAILABLE, message) from ex
    if len(content) > _MAX_BYTES:
        raise _refuse(path, f"it is larger than {_MAX_BYTES} bytes")
    return content


def _numbers(
    path: Path, kind: str, names: Iterable[str | int], find: Callable[[str], int]
) -> list[int]:
    """Return the ids behind names; whoever is not there is told of, and has no role."""
    numbers = []
    for name in names:
        try:
            numbers.append(name if isinstance(name, int) else find(name))
        except KeyError:
            _log.warning("%s names the %s %r, and there is none on this host", path, kind, name)
    return numbers


def _user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _refuse(path: Path, why: str) -> ApiFailure:
    return failure(ErrorCode.INVALID_CONFIG, f"the access file {path} is not used: {why}")
