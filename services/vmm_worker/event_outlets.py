# SPDX-License-Identifier: Apache-2.0
"""The ways events take out of the worker: to who asks for them, and to a file."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Final

import zmq

from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import Operation
from ipc_protocol.server import Incoming, Server
from vmm_worker.event_file import EventFile, EventTarget
from vmm_worker.event_readers import EventReaders
from vmm_worker.monitor import Monitor

__all__ = ["EventOutlets"]

_LAST_QUESTIONS: Final = 1.0
"""Seconds, at the end of the worker."""


class EventOutlets:
    """Passes events on as they happen; for the control loop, which polls for it.

    Args:
        monitor: Has the events.
        server: Where those are answered that ask.
        target: The file, if there is to be one.
        poller: The loop's.

    Raises:
        VmFailure: The file cannot be written to.
    """

    def __init__(
        self, monitor: Monitor, server: Server, target: EventTarget | None, poller: zmq.Poller
    ) -> None:
        self._monitor = monitor
        self._server = server
        self._readers = EventReaders(monitor, server)
        self._file = None if target is None else EventFile(monitor, target)
        self._poller = poller
        self._waits_for_room = False
        poller.register(monitor.fd, zmq.POLLIN)

    @property
    def due(self) -> float | None:
        """When :meth:`serve` is to be called at the latest (``time.monotonic``)."""
        return self._readers.due

    def take(self, incoming: Incoming) -> None:
        """Answer a question for events, now or later."""
        self._readers.take(incoming)

    def serve(self, ready: Container[int]) -> None:
        """Pass on what is new.

        Args:
            ready: The descriptors that the loop's poll ended with.
        """
        told = self._monitor.fd in ready
        if told:
            self._monitor.clear()
        if self._file is not None and (told or self._file.fd in ready):
            self._file.write()
            self._await_room(self._file)
        if told or (self.due is not None and time.monotonic() >= self.due):
            self._readers.serve()

    def close(self) -> None:
        """Pass on the last events; nothing is told any more."""
        self._readers.close()
        self._await_last_questions()
        if self._file is not None:
            self._file.close()
        self._monitor.close()

    def _await_last_questions(self) -> None:
        """Let readers that were answered just before the end hear of the end."""
        deadline = time.monotonic() + _LAST_QUESTIONS
        while self._readers.owed and (left := deadline - time.monotonic()) > 0:
            self._server.socket.poll(int(left * 1000))
            incoming = self._server.receive()
            if incoming is None:
                continue
            if incoming.operation is Operation.VMM_EVENTS:
                self._readers.take(incoming)
            else:
                message = f"{incoming.operation}: the worker is shutting down"
                error = VmError(code=ErrorCode.VMM_UNAVAILABLE, message=message)
                self._server.fail(incoming, error)

    def _await_room(self, file: EventFile) -> None:
        if file.blocked and not self._waits_for_room:
            self._poller.register(file.fd, zmq.POLLOUT)
        elif self._waits_for_room and not file.blocked:
            self._poller.unregister(file.fd)
        self._waits_for_room = file.blocked
