# SPDX-License-Identifier: Apache-2.0
"""``GET vmm.events``: the events of a VM and its worker as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import falcon

from api_server.event_text import CONTENT_TYPE, GREETING, LAST_EVENT_ID, Position
from api_server.failure import failure
from api_server.stream_reader import Reader
from api_server.streams import MAX_READERS
from api_server.target import worker_of
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import Operation
from ipc_protocol.monitor import EventBatch, EventsQuery

if TYPE_CHECKING:
    import socket

    from api_server.connection import ClientSocket, Heir
    from api_server.request import Request
    from api_server.services import Services

__all__ = ["answer_events"]

_TIMEOUT: Final = 5.0


def answer_events(req: Request, resp: falcon.Response, services: Services) -> None:
    """Begin a stream, which goes on without the thread that began it.

    Its first event is the one after ``Last-Event-ID``, or the next one that happens.
    """
    worker = worker_of(req, services)
    streams = services.streams
    if streams.readers >= MAX_READERS:
        raise failure(
            ErrorCode.TOO_MANY_READERS,
            f"{MAX_READERS} clients read events at present; close one of them, or come back later",
        )
    with services.turns.take(worker):
        start = services.peers.call(worker, Operation.VMM_EVENTS, EventsQuery(), timeout=_TIMEOUT)
    position = _position(req.get_header(LAST_EVENT_ID), start)
    resp.content_type = CONTENT_TYPE
    resp.set_header("Cache-Control", "no-store")
    if req.method == "HEAD":
        resp.stream = iter(())
        return

    def go_on(connection: socket.socket, unsent: bytes) -> None:
        chunked = req.env["SERVER_PROTOCOL"] != "HTTP/1.0"
        reader = Reader(connection, unsent, position, chunked=chunked)
        streams.adopt(reader, worker, start)

    resp.stream = _begin(req.env["gunicorn.socket"], go_on)


def _begin(connection: ClientSocket, heir: Heir) -> Iterator[bytes]:
    """Have gunicorn send the head, and leave the rest to another."""
    yield GREETING
    connection.heir = heir


def _position(last: str | None, start: EventBatch) -> Position:
    """Return the last event that a client has, which is to have happened."""
    newest = Position(start.epoch, start.last)
    if not last:
        return newest
    position = Position.parse(last)
    if position.epoch == newest.epoch and position.seq > newest.seq:
        raise failure(
            ErrorCode.INVALID_REQUEST,
            f"{LAST_EVENT_ID} {position} has not happened; the newest event is {newest}",
        )
    return position
