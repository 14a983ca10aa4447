# SPDX-License-Identifier: Apache-2.0
"""The access file as it is now, for as long as the server runs."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Final

from api_server.credentials import Credentials
from api_server.policy import default_policy, read_policy
from api_server.roles import Role
from ipc_protocol.errors import ApiFailure

__all__ = ["DEFAULT_PATH", "Access"]

_log = logging.getLogger(__name__)

DEFAULT_PATH = Path("/etc/velum/access.toml")

_Version = tuple[int, int, int, int]
_UNKNOWN: Final[_Version] = (0, 0, 0, 0)
"""Of a file that may be there: whoever reads it learns why it cannot be looked at."""


class Access:
    """The access file as it is now: a change of it counts from the next request on.

    Args:
        path: The file; it has to be there.
        optional: Whether the default holds while there is none.

    Raises:
        ApiFailure: The file is of no use.
    """

    def __init__(self, path: Path = DEFAULT_PATH, *, optional: bool = True) -> None:
        self.path = path
        """What to change when somebody should have another role."""
        self._lock = threading.Lock()
        self._version = _version(path)
        missing = optional and self._version is None
        self._policy = default_policy() if missing else read_policy(path)

    def role(self, credentials: Credentials) -> Role | None:
        """Return the role of a peer."""
        version = _version(self.path)
        if version != self._version:
            self._reload(version)
        return self._policy.role(credentials)

    def _reload(self, version: _Version | None) -> None:
        """Read the file anew; what is of no use, or gone, leaves all as it was."""
        with self._lock:
            if version == self._version:
                return
            try:
                self._policy = read_policy(self.path)
            except ApiFailure as ex:
                _log.error("%s; what it said before still holds", ex)
            else:
                _log.info("the access file %s was read anew", self.path)
            # Last: until then whoever comes finds that it changed, and waits for the lock.
            self._version = version


def _version(path: Path) -> _Version | None:
    """Return what changes when a file does, or nothing if there surely is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once for every request
    except FileNotFoundError:
        return None
    except OSError:
        return _UNKNOWN
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
