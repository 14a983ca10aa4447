# SPDX-License-Identifier: Apache-2.0
"""What one server has beside its routes, for every part that answers a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from api_server.access import Access
from api_server.audit_log import AuditSink
from api_server.metrics.own import ApiMetrics
from api_server.peers import Peers
from api_server.roster import Roster
from api_server.streams import Streams
from api_server.turns import THREADS, Turns

__all__ = ["Services"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """Made once, before the fork; each holds back with threads and connections until needed."""

    peers: Peers
    """The workers of this host."""
    turns: Turns = field(default_factory=lambda: Turns(THREADS))
    """Which worker may have how many of the server's threads."""
    roster: Roster = field(init=False)
    """How they all do."""
    access: Access
    """Who has which role."""
    audit: AuditSink
    """Where it is told who did what."""
    metrics: ApiMetrics = field(default_factory=ApiMetrics)
    """What it counts of its own work."""
    streams: Streams = field(default_factory=Streams)
    """Who reads events."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roster", Roster(self.peers))
