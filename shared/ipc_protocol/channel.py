# SPDX-License-Identifier: Apache-2.0
"""One connection of a client to a worker, used by one thread at a time."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from enum import Enum
from typing import Final

import zmq

from ipc_protocol.codec import MAX_MESSAGE
from ipc_protocol.version import PROTOCOL_VERSION

__all__ = ["Channel", "Wait"]

_RECONNECT_MS: Final = 20
_RECONNECT_MAX_MS: Final = 1000


class Wait(Enum):
    """What a wait ended with."""

    READY = "ready"
    LOST = "lost"
    EXPIRED = "expired"


class _Context:
    """The ZeroMQ context of a process, hence its one I/O thread, while a channel is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._channels = 0

    def take(self) -> zmq.Context[zmq.Socket[bytes]]:
        with self._lock:
            if self._context is None:
                self._context = zmq.Context()
                # A channel has three sockets: its own and both ends of its monitor.
                self._context.set(zmq.MAX_SOCKETS, self._context.get(zmq.SOCKET_LIMIT))
            self._channels += 1
            return self._context

    def give_back(self) -> None:
        with self._lock:
            self._channels -= 1
            if self._channels == 0 and self._context is not None:
                self._context.term()
                self._context = None


_contexts: Final[dict[int, _Context]] = {}
"""By process id: a fork has the parent's sockets, but not its I/O thread."""


class Channel:
    """A DEALER socket and the monitor that tells when its peer is gone.

    It connects in the background and never twice: once the connection was lost,
    the channel is to be closed, for a request may have gone with it.
    """

    def __init__(self, endpoint: str) -> None:
        self.version = PROTOCOL_VERSION
        """What to speak on it; whoever meets an older worker sets it back. Behind one connection
        there is one process, which never learns another."""
        pid = os.getpid()
        shared = _contexts.get(pid) or _contexts.setdefault(pid, _Context())
        with contextlib.ExitStack() as undo:
            context = shared.take()
            undo.callback(shared.give_back)
            self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
            undo.callback(self._socket.close, linger=0)
            # Not IMMEDIATE, with which libzmq throws away what has arrived and was not read
            # when the peer closes: the last reply of a worker that ends.
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
            self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
            self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
            )
            undo.callback(self._monitor.close, linger=0)
            undo.callback(self._socket.disable_monitor)
            self._poller = zmq.Poller()
            self._poller.register(self._socket, zmq.POLLIN)
            self._poller.register(self._monitor, zmq.POLLIN)
            self._socket.connect(endpoint)
            self._undo = undo.pop_all()

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a poller watches for input, and then has :meth:`look` (or :meth:`connected`).

        They tell of news once: whoever polls them looks until there is nothing left, and again
        after sending.
        """
        return self._socket.fileno(), self._monitor.fileno()

    def close(self) -> None:
        """Close the sockets; what was not sent is dropped."""
        self._undo.close()

    def lost(self) -> bool:
        """Tell whether the connection broke since it was made."""
        # After connected() there is nothing else to report first, and it is never read: once
        # true, always true.
        return bool(self._monitor.poll(0))

    def connected(self, deadline_ns: int) -> bool:
        """Wait until the worker's side of the connection stands; called once, before use."""
        while self._monitor.poll(_milliseconds(deadline_ns)):
            (event,) = struct.unpack_from("=H", self._monitor.recv_multipart()[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
        return False

    def send(self, data: bytes) -> bool:
        """Send a message, or tell that it cannot be sent now."""
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait(self, deadline_ns: int) -> Wait:
        """Wait for a message or for the loss of the connection."""
        left = _milliseconds(deadline_ns)
        ready = dict(self._poller.poll(left)) if left else None
        if not ready:
            return Wait.EXPIRED
        # A worker's last reply may come together with the loss of the connection.
        return Wait.READY if self._socket in ready or self._socket.poll(0) else Wait.LOST

    def look(self) -> Wait:
        """Return what a wait would end with now."""
        if self._socket.poll(0):
            return Wait.READY
        if not self._monitor.poll(0):
            return Wait.EXPIRED
        return Wait.READY if self._socket.poll(0) else Wait.LOST

    def receive(self) -> bytes | None:
        """Return the message that a wait ended with, or ``None`` if it is none of ours."""
        frames = self._socket.recv_multipart(zmq.NOBLOCK)
        return frames[0] if len(frames) == 1 else None


def _milliseconds(deadline_ns: int) -> int:
    """Return how long it is until then, rounded up: 0 would spin through the last one."""
    return max(0, -(-(deadline_ns - time.monotonic_ns()) // 1_000_000))
