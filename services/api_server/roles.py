# SPDX-License-Identifier: Apache-2.0
"""What a peer may do, and who it is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from api_server.credentials import Credentials

__all__ = ["Peer", "Role"]


class Role(IntEnum):
    """Each may do what the ones before it may; a peer without one may do nothing."""

    VIEWER = 1
    """Reads: state, configuration, counters, jobs, events, metrics."""
    OPERATOR = 2
    """The life of VMs that are there, and nothing that names a file or interface of the host."""
    ADMIN = 3
    """Everything: what files and devices of the host a VM gets, and whether there is a worker."""

    def __str__(self) -> str:
        return self.name.lower()


class Peer(NamedTuple):
    """Who sent a request."""

    credentials: Credentials
    user: str | None
    """The user's name, if it has one."""
    role: Role | None

    def __str__(self) -> str:
        """Return the beginning of a sentence about it."""
        standing = f"who is {self.role}" if self.role else "who has no role"
        return f"user {self.user or self.credentials.uid}, {standing},"
