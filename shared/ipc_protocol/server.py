# SPDX-License-Identifier: Apache-2.0
"""The worker's end: typed requests in, replies out, and no peer can make it raise."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import msgspec
import zmq

from ipc_protocol import envelope
from ipc_protocol.codec import MAX_MESSAGE
from ipc_protocol.connections import OFFENCES, Connections
from ipc_protocol.context import NO_CONTEXT, Context
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.listener import SocketPath
from ipc_protocol.messages import SIGNATURES, Operation, Signature
from ipc_protocol.names import endpoint
from ipc_protocol.version import PROTOCOL_VERSION

__all__ = ["Counters", "Incoming", "Server", "causes_of", "outcome"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_REQUESTS_PER_PEER: Final = 8
"""A client sends one request at a time; more than a few are late ones or a flood."""
_REPLIES_PER_PEER: Final = 64
"""What waits for one peer to read; these are small."""
_ROOT: Final = 0
_LINGER_MS: Final = 500
"""How long ``close`` waits for the last replies to leave."""
_MAX_CAUSES: Final = 16
_HANDSHAKE_MS: Final = 10_000
"""How long who connects may take to say what it is."""
_FRAMES: Final = 256
"""Frames read in one go of a message that should have one."""
_BATCH: Final = 64
"""Messages refused in one ``receive`` before the loop gets to see its other events."""
_OFFENCE_NS: Final = 10_000_000
"""Nanoseconds of the loop's time that weigh as much as one message more."""
_BATCH_NS: Final = 5_000_000
"""Nanoseconds after which it does too: some take much longer to refuse than others."""


@dataclass(slots=True)
class Counters:
    """What happened to messages that never became a request, or replies nobody took."""

    refused: int = 0
    """Answered with an error before the worker saw them."""
    dropped: int = 0
    """Without an id to answer under."""
    undelivered: int = 0
    """Replies whose peer was gone or did not read."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request, checked, and the way back to who sent it."""

    operation: Operation
    body: Any
    """As the operation's signature says."""
    deadline_ns: int
    """When the caller stops waiting, in ``CLOCK_MONOTONIC``."""
    received_ns: int
    """When it was read, in ``CLOCK_MONOTONIC``."""
    id: bytes = field(repr=False)
    peer: bytes = field(repr=False)
    context: Context = NO_CONTEXT
    version: int = PROTOCOL_VERSION
    """Of the protocol, in which it is answered."""

    @property
    def expired(self) -> bool:
        """Whether the caller has stopped waiting."""
        return time.monotonic_ns() >= self.deadline_ns

    @property
    def signature(self) -> Signature:
        """What the operation takes and gives."""
        return SIGNATURES[self.operation]


class Server:
    """Listens at a socket path that is its own while it lives.

    All methods are for one thread, the one that polls ``socket`` and ``connections.socket``.

    Args:
        path: Where it listens.
        peers: The ids of the users who may connect besides root and this process's own.
        context: Whose threads carry the messages, instead of a context of its own; it is the
            server's, and ended with it.

    Raises:
        VmFailure: ``host_resource`` when it cannot listen there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        peers: Iterable[int] = (),
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        address = endpoint(path)
        self.counters = Counters()
        self._skipping = False
        self._path = SocketPath(os.fspath(path))
        self._context: zmq.Context[zmq.Socket[bytes]] = context or zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        """The ROUTER, for a poller: readable when ``receive`` may have something."""
        self.connections = Connections(self.socket, os.fspath(path))
        try:
            self.socket.linger = _LINGER_MS
            self.socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
            self.socket.setsockopt(zmq.RCVHWM, _REQUESTS_PER_PEER)
            self.socket.setsockopt(zmq.SNDHWM, _REPLIES_PER_PEER)
            for uid in {_ROOT, os.geteuid(), *peers}:
                self.socket.setsockopt(zmq.IPC_FILTER_UID, uid)
            self.socket.setsockopt(zmq.USE_FD, self._path.detach())
            self.socket.bind(address)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, see the last replies off and give the path up."""
        self.connections.close()
        self.socket.close()
        self._path.close()
        self._context.term()

    def receive(self) -> Incoming | None:
        """Return the next request, or ``None`` if none has come.

        What is no request is answered with the reason, or dropped and counted when it
        has no id to answer under. A request whose caller has stopped waiting is not
        worth doing and is refused as well.
        """
        self.connections.follow()
        end_ns = time.monotonic_ns() + _BATCH_NS
        for _ in range(_BATCH):
            try:
                message = self._next()
            except zmq.Again:
                return None
            incoming = None if message is None else self._hear(*message)
            if incoming is not None:
                return incoming
            if time.monotonic_ns() >= end_ns:
                return None
        return None

    def reply(self, incoming: Incoming, value: object = None) -> None:
        """Answer a request; one whose caller is gone is forgotten."""
        reply = envelope.Reply(id=incoming.id, value=value, version=incoming.version)
        self._answer(incoming.peer, reply)

    def fail(self, incoming: Incoming, error: VmError) -> None:
        """Answer a request with the reason why it was not done."""
        reply = envelope.Reply(id=incoming.id, error=error, version=incoming.version)
        self._answer(incoming.peer, reply)

    def _next(self) -> tuple[bytes, zmq.Frame] | None:
        """Return a message and whose it is, or nothing for a part of one that is none."""
        if not self._skipping:
            peer = self.socket.recv(zmq.NOBLOCK, copy=False)
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            if not frame.more:
                return peer.bytes, frame
            self.counters.dropped += 1
            self._blame(frame, "it has more than one frame")
        # What is left of it can only be read, and of frames there is no end.
        for _ in range(_FRAMES):
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            self._skipping = frame.more
            if not frame.more:
                return None
        self._blame(frame, f"it has more than {_FRAMES} frames", weight=OFFENCES)
        return None

    def _hear(self, peer: bytes, frame: zmq.Frame) -> Incoming | None:
        """Read a message, unless it is of somebody whom it is not worth while to listen to."""
        if self.connections.is_banned(frame):
            self.counters.dropped += 1
            return None
        return self._read(peer, frame)

    def _read(self, peer: bytes, frame: zmq.Frame) -> Incoming | None:
        began_ns = time.monotonic_ns()
        try:
            request = envelope.decode_request(frame.bytes)
        except envelope.EnvelopeFailure as ex:
            if ex.correlation is None:
                self.counters.dropped += 1
                self._blame(frame, ex.error.message, weight=_weight(began_ns))
                return None
            if ex.error.code is ErrorCode.MALFORMED_MESSAGE:
                self._blame(frame, ex.error.message, weight=_weight(began_ns))
            self.counters.refused += 1
            refusal = envelope.Reply(id=ex.correlation, error=ex.error, version=ex.version)
            self._answer(peer, refusal)
            return None
        incoming = Incoming(
            operation=request.operation,
            body=request.body,
            deadline_ns=request.deadline_ns,
            received_ns=time.monotonic_ns(),
            id=request.id,
            peer=peer,
            context=request.context,
            version=request.version,
        )
        if incoming.expired:
            self.counters.refused += 1
            message = f"{request.operation} arrived after its deadline and was not done"
            self.fail(incoming, VmError(code=ErrorCode.VMM_TIMEOUT, message=message))
            return None
        return incoming

    def _blame(self, frame: zmq.Frame, reason: str, *, weight: int = 1) -> None:
        self.connections.blame(int(frame.get(zmq.SRCFD)), reason, weight=weight)

    def _answer(self, peer: bytes, reply: envelope.Reply) -> None:
        data = outcome(lambda: envelope.encode_reply(reply))
        if isinstance(data, VmError):
            data = envelope.encode_reply(msgspec.structs.replace(reply, value=None, error=data))
        if not self._send(peer, data) and not self._send(peer, data):
            self.counters.undelivered += 1

    def _send(self, peer: bytes, data: bytes) -> bool:
        try:
            self.socket.send_multipart((peer, data), zmq.NOBLOCK)
        except zmq.ZMQError as ex:
            # EHOSTUNREACH: gone. EAGAIN: it asks and does not read, as far as the socket
            # has heard; a busy one listens to its own I/O thread only when asked for its
            # state, and without that would call a peer full that has read everything.
            if ex.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.socket.get(zmq.EVENTS)
            return False
        return True


def _weight(began_ns: int) -> int:
    """Return for how many messages one counts that took until now to refuse."""
    return 1 + (time.monotonic_ns() - began_ns) // _OFFENCE_NS


def outcome(function: Callable[[], _T]) -> _T | VmError:
    """Return what a function returns, or the error that its exception stands for.

    The one place where an exception becomes a value. A failure without causes of its
    own gets those it was raised from. What nobody foresaw is a fault of ours: logged
    whole under a reference, which the error repeats.
    """
    try:
        return function()
    except VmFailure as ex:
        if ex.error.causes or ex.__cause__ is None:
            return ex.error
        return VmError(
            code=ex.error.code,
            message=ex.error.message,
            causes=causes_of(ex),
            fields=ex.error.fields,
            reference=ex.error.reference,
        )
    except Exception as ex:  # noqa: BLE001 - whatever it is, the caller gets an answer
        reference = os.urandom(6).hex()
        _log.exception("unexpected failure, reference %s", reference)
        return VmError(
            code=ErrorCode.INTERNAL,
            message=f"an unexpected failure in the worker; its log has reference {reference}",
            causes=(_text(ex), *causes_of(ex)),
            reference=reference,
        )


def causes_of(ex: BaseException) -> tuple[str, ...]:
    """Return what an exception was raised from, outermost first, root last."""
    causes: list[str] = []
    cause = ex.__cause__
    while cause is not None and len(causes) < _MAX_CAUSES:
        causes.append(_text(cause))
        cause = cause.__cause__
    return tuple(causes)


def _text(ex: BaseException) -> str:
    if isinstance(ex, VmFailure):
        return ex.error.message
    return f"{type(ex).__name__}: {ex}" if str(ex) else type(ex).__name__
