# SPDX-License-Identifier: Apache-2.0
"""The way to a worker's events: one question after another, and no thread that waits."""

from __future__ import annotations

import os
import time
from enum import Enum
from typing import Final, TypeAlias

from ipc_protocol import codec, envelope
from ipc_protocol.channel import Channel, Wait
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.monitor import EventBatch, EventsQuery
from ipc_protocol.names import endpoint

__all__ = ["Change", "News", "Subscription"]

_TIMEOUT_NS: Final = int(SIGNATURES[Operation.VMM_EVENTS].timeout * 1e9)


class Change(Enum):
    """What became of the connection."""

    MADE = "made"
    LOST = "lost"


News: TypeAlias = EventBatch | VmFailure | Change


class Subscription:
    """Asks the worker at a socket path for its events, whenever there is one.

    All methods are for the thread that polls :attr:`descriptors` for input; whenever one is
    readable, and after each other call, it takes news until there are none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._endpoint = endpoint(path)
        self._channel = Channel(self._endpoint)
        self._connected = False
        self._asked: bytes | None = None
        self.query: EventsQuery | None = None
        """The question that is yet to be answered."""

    @property
    def descriptors(self) -> tuple[int, int]:
        """What to poll; others after :meth:`reconnect`."""
        return self._channel.descriptors

    @property
    def connected(self) -> bool:
        """Whether a question would reach the worker."""
        return self._connected

    def ask(self, query: EventsQuery) -> None:
        """Send a question in place of any that was sent before."""
        request = envelope.Request(
            id=envelope.new_id(),
            operation=Operation.VMM_EVENTS,
            deadline_ns=time.monotonic_ns() + _TIMEOUT_NS,
            body=query,
            version=self._channel.version,
        )
        # What cannot be sent now is lost with the connection, and that is told.
        if self._channel.send(envelope.encode_request(request)):
            self._asked, self.query = request.id, query

    def take(self) -> News | None:
        """Return the next thing that happened.

        After ``Change.LOST`` there is nothing more until :meth:`reconnect`.
        """
        if not self._connected:
            # Its attempts to connect make the socket's descriptor readable until it is asked.
            self._channel.look()
            self._connected = self._channel.connected(0)
            return Change.MADE if self._connected else None
        while (state := self._channel.look()) is Wait.READY:
            answer = self._answer(self._channel.receive())
            if answer is not None:
                self._asked = self.query = None
                return answer
        return Change.LOST if state is Wait.LOST else None

    def reconnect(self) -> None:
        """Look for the worker again; the connection is made in the background."""
        self._channel.close()
        self._channel = Channel(self._endpoint)
        self._connected = False
        self._asked = self.query = None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _answer(self, data: bytes | None) -> EventBatch | VmFailure | None:
        """Return what a message says, if it is the answer to the present question."""
        if data is None:
            return None
        try:
            reply = envelope.decode_reply(data)
        except envelope.EnvelopeFailure as ex:
            return ex if ex.correlation == self._asked else None
        if reply.id != self._asked:
            return None
        if reply.falls_back and self._channel.version != reply.version and self.query is not None:
            self._channel.version = reply.version
            self.ask(self.query)
            return None
        return _batch(reply)


def _batch(reply: envelope.Reply) -> EventBatch | VmFailure:
    if reply.error is not None:
        return VmFailure.of(reply.error)
    try:
        batch: EventBatch = codec.convert(reply.value, EventBatch)
    except VmFailure as ex:
        return ex
    return batch
