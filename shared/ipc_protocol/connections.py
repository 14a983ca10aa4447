# SPDX-License-Identifier: Apache-2.0
"""Who is connected to a server's socket: how many, for how long, and how they behave.

libzmq accepts without end (out of descriptors, it ends the process) and never ends a connection
over what is in a message. It does tell of each that it accepted; a second descriptor of that one
shows whose it is and whether it hung up, and ends it for both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

import zmq

__all__ = ["MAX_CONNECTIONS", "MAX_OF_PROCESS", "OFFENCES", "Connections", "Ended"]

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
"""Of all processes; a client has one for each call in progress."""
MAX_OF_PROCESS: Final = 128
"""Two clients at the height of what they may have."""
OFFENCES = 32
"""Messages that are none before who sent them is disconnected: no client of ours sends any."""
_BAN_S: Final = 30.0
"""Seconds for which the connections of such a process are ended at once."""
_BATCH: Final = 256
"""Events taken before the caller gets to see its others."""
_UNREAD: Final = 1 << 18
"""Bytes thrown away at once of what a connection sent before it was ended."""
_EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


@dataclass(slots=True)
class Ended:
    """Connections that were refused or ended, by reason."""

    stranger: int = 0
    """Of a user who may not connect."""
    surplus: int = 0
    """More than there may be."""
    foreign: int = 0
    """Over which came what is not ZeroMQ's protocol, or a message beyond the largest; less those
    that libzmq had closed before anybody looked at them. One that only came and went is among
    them if the next had its number by then: libzmq tells of both by the number alone."""
    abusive: int = 0
    """Over which came too many messages that are none, or of a process that had done so."""


@dataclass(slots=True, eq=False)
class _Connection:
    """One that stands."""

    socket: socket.socket
    pid: int
    uid: int
    offences: int = 0

    def __str__(self) -> str:
        return f"user {self.uid}, process {self.pid}"


class Connections:
    """The connections of a ROUTER; made before it is bound.

    Args:
        router: The ROUTER.
        path: The path it will listen at.
    """

    def __init__(self, router: zmq.Socket[bytes], path: str) -> None:
        self.ended = Ended()
        self._router = router
        self._path = path
        self._standing: dict[int, _Connection] = {}
        """By libzmq's descriptor."""
        self._of_process: Counter[int] = Counter()
        self._banned: dict[int, float] = {}
        """Until when, by process."""
        monitor = f"inproc://connections-{id(self)}"
        router.monitor(monitor, _EVENTS)
        self.socket: zmq.Socket[bytes] = router.context.socket(zmq.PAIR)
        """For a poller: readable when there is something to :meth:`follow`."""
        # Without a bound: libzmq's thread would wait for us, and at the end we for it.
        self.socket.rcvhwm = 0
        self.socket.connect(monitor)

    def __len__(self) -> int:
        return len(self._standing)

    def close(self) -> None:
        """Stop watching; the connections are the router's to end. Again is harmless."""
        if self.socket.closed:
            return
        self._router.disable_monitor()
        self.socket.close()
        for connection in self._standing.values():
            connection.socket.close()
        self._standing.clear()

    def follow(self) -> None:
        """Take note of who came and who went."""
        for _ in range(_BATCH):
            try:
                event, _ = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            kind, descriptor = struct.unpack("=Hi", event)
            if kind == zmq.EVENT_ACCEPTED:
                self._accepted(descriptor)
            elif kind == zmq.EVENT_DISCONNECTED:
                self._disconnected(descriptor)
            else:
                self.ended.stranger += 1
                _log.warning("a connection was refused: its user is none of --ipc-peer")

    def is_banned(self, frame: zmq.Frame) -> bool:
        """Tell whether a message is of a process that is not heard at present."""
        if not self._banned:
            return False
        # The last part is the process, those before it are its group, its user and "localhost".
        pid = int(str(frame.get("Peer-Address")).rpartition(":")[2])
        return self._banned.get(pid, 0.0) > time.monotonic()

    def blame(self, descriptor: int, reason: str, *, weight: int = 1) -> None:
        """Hold a message that is none against the connection that it came over.

        Args:
            descriptor: libzmq's, of that connection.
            reason: What is wrong with the message.
            weight: For how many such messages it counts.
        """
        connection = self._standing.get(descriptor)
        if connection is None:
            return  # It is gone, and this came before it went.
        before = connection.offences
        connection.offences += weight
        _log.warning("%s: a message was refused: %s", connection, reason)
        if before < OFFENCES <= connection.offences:
            self._banned[connection.pid] = time.monotonic() + _BAN_S
            self._end_abusive(connection)

    def _accepted(self, descriptor: int) -> None:
        connection = self._identify(descriptor)
        if connection is None:
            return
        self._standing[descriptor] = connection
        self._of_process[connection.pid] += 1
        if self._banned.get(connection.pid, 0.0) > time.monotonic():
            self._end_abusive(connection)
        elif (
            len(self._standing) > MAX_CONNECTIONS
            or self._of_process[connection.pid] > MAX_OF_PROCESS
        ):
            self.ended.surplus += 1
            _log.warning(
                "%s: disconnected: there are %d connections, %d of this process; %d and %d are "
                "possible",
                connection,
                len(self._standing),
                self._of_process[connection.pid],
                MAX_CONNECTIONS,
                MAX_OF_PROCESS,
            )
            _end(connection)

    def _identify(self, descriptor: int) -> _Connection | None:
        """Return a connection, unless its descriptor is something else by now."""
        try:
            duplicate = os.dup(descriptor)
        except OSError:
            return None
        try:
            own = socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(own.close)
            with contextlib.suppress(OSError):
                if own.family == socket.AF_UNIX and own.getsockname() == self._path:
                    credentials = own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    pid, uid, _ = struct.unpack("=iII", credentials)
                    undo.pop_all()
                    return _Connection(own, pid, uid)
        return None

    def _disconnected(self, descriptor: int) -> None:
        connection = self._standing.pop(descriptor, None)
        if connection is None:
            return
        self._of_process[connection.pid] -= 1
        if not self._of_process[connection.pid]:
            del self._of_process[connection.pid]
        poll = select.poll()
        poll.register(connection.socket, select.POLLRDHUP)
        if not any(events & _HUNG_UP for _, events in poll.poll(0)):
            self.ended.foreign += 1
            _log.warning(
                "%s: disconnected: it sent what is not ZeroMQ's protocol, or too large a message",
                connection,
            )
        connection.socket.close()

    def _end_abusive(self, connection: _Connection) -> None:
        self.ended.abusive += 1
        _log.warning(
            "%s: disconnected for messages that are none, and so is what it connects within %g s",
            connection,
            _BAN_S,
        )
        _end(connection)


def _end(connection: _Connection) -> None:
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
        # libzmq would read what has come first: a hundred thousand frames fit in the kernel.
        while connection.socket.recv(_UNREAD, socket.MSG_DONTWAIT):
            pass
