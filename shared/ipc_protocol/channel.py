# SPDX-License-Identifier: Apache-2.0
"""One connection of a client to a worker, used by one thread at a time."""

from __future__ import annotations

import os
import time
from enum import Enum
from typing import Final

import zmq

from ipc_protocol.codec import MAX_MESSAGE

__all__ = ["Channel", "Wait"]

_RECONNECT_MS: Final = 20
_RECONNECT_MAX_MS: Final = 1000

_contexts: Final[dict[int, zmq.Context[zmq.Socket[bytes]]]] = {}
"""One context, hence one I/O thread, for all clients of a process; a fork makes its own."""


class Wait(Enum):
    """What a wait ended with."""

    READY = "ready"
    LOST = "lost"
    EXPIRED = "expired"


def _context() -> zmq.Context[zmq.Socket[bytes]]:
    pid = os.getpid()
    context = _contexts.get(pid)
    if context is None:
        made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context = _contexts.setdefault(pid, made)
        if context is made:
            # A channel has three sockets: its own and both ends of its monitor.
            made.set(zmq.MAX_SOCKETS, made.get(zmq.SOCKET_LIMIT))
        else:
            made.term()
    return context


class Channel:
    """A DEALER socket and the monitor that tells when its peer is gone.

    It connects in the background and never twice: once the connection was lost,
    the channel is to be closed, for a request may have gone with it.
    """

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = _context().socket(zmq.DEALER)
        self._monitor: zmq.Socket[bytes] | None = None
        self._lost = False
        self._poller = zmq.Poller()
        try:
            self._socket.linger = 0
            # Queue nothing for a worker that is not there.
            self._socket.immediate = True
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
            self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._poller.register(self._socket, zmq.POLLIN)
            self._poller.register(self._monitor, zmq.POLLIN)
            self._socket.connect(endpoint)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets; what was not sent is dropped."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def lost(self) -> bool:
        """Tell whether the connection broke since it was made."""
        # The monitor was told to report nothing else.
        if not self._lost and self._monitor is not None:
            self._lost = bool(self._monitor.poll(0))
        return self._lost

    def connected(self, deadline_ns: int) -> bool:
        """Wait until the worker's side of the connection stands."""
        return bool(self._socket.poll(_milliseconds(deadline_ns), zmq.POLLOUT))

    def send(self, data: bytes) -> bool:
        """Send a message, or tell that it cannot be sent now."""
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return a message that has arrived; what is no single frame is dropped."""
        try:
            while True:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) == 1:
                    return frames[0]
        except zmq.Again:
            return None

    def wait(self, deadline_ns: int) -> Wait:
        """Wait for a message or for the loss of the connection."""
        ready = dict(self._poller.poll(_milliseconds(deadline_ns)))
        if not ready:
            return Wait.EXPIRED
        # A worker's last reply may come together with the loss of the connection.
        return Wait.READY if self._socket in ready or self._socket.poll(0) else Wait.LOST


def _milliseconds(deadline_ns: int) -> int:
    """Return how long it is until then, rounded up: 0 would spin through the last one."""
    return max(0, -(-(deadline_ns - time.monotonic_ns()) // 1_000_000))
