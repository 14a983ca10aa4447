# SPDX-License-Identifier: Apache-2.0
"""Every worker of the host, whatever state it is in itself."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import Future
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from api_server.credentials import credentials_of
from api_server.peers import Peers
from api_server.survey import each_worker
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation, VmState
from ipc_protocol.names import vm_of

__all__ = ["PATIENCE", "Roster", "WorkerInfo", "WorkerState"]

PATIENCE: Final = 2.0
"""Seconds that each worker has to answer; all are asked at once."""
DOUBT: Final = 0.5
"""The same for one that did not answer the last time."""


class WorkerState(StrEnum):
    """The state of a worker's VM, or why nobody knows it."""

    NOT_CREATED = "NotCreated"
    CREATED = "Created"
    RUNNING = "Running"
    PAUSED = "Paused"
    SHUTDOWN = "Shutdown"
    UNRESPONSIVE = "Unresponsive"
    UNAVAILABLE = "Unavailable"


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker: an element of ``vmm.list``."""

    name: str
    """Of its VM, as the HTTP ``Host`` names it."""
    state: WorkerState
    """Of its VM. ``NotCreated``: it has none. ``Unresponsive``: it is there and does not answer.
    ``Unavailable``: it is gone and left its socket, or cannot be talked to."""
    pid: int | None = None
    """Its process; for one that does not answer, who listens on its socket."""
    detail: str | None = None
    """What is wrong, where something is."""


class _Silent:
    """A worker that did not answer the last time.

    Whoever asks the kernel who that is leaves a connection behind that nobody takes: one is
    enough.
    """

    def __init__(self) -> None:
        self._made = 0
        self._pid: int | None = None

    def process(self, path: Path) -> int | None:
        """Return who listens on a socket, if that can be known."""
        with contextlib.suppress(OSError):
            made = path.stat().st_ctime_ns
            if made != self._made:
                self._made, self._pid = made, _listener(path)
        return self._pid


class Roster:
    """Asks all workers; who asks for that while it is being done shares the next time.

    So any number of clients costs no more threads than one, and none is told what was so
    before it asked.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next: Future[tuple[WorkerInfo, ...]] | None = None
        self._silent: dict[Path, _Silent] = {}

    def read(self) -> tuple[WorkerInfo, ...]:
        """Return all workers, by name."""
        with self._lock:
            future, leads = self._next, self._next is None
            if future is None:
                future = self._next = Future()
        if leads:
            with self._turn:
                with self._lock:
                    self._next = None
                self._ask(future)
        return future.result()

    def _ask(self, future: Future[tuple[WorkerInfo, ...]]) -> None:
        try:
            found = each_worker(self._peers, self._look_at)
        except BaseException as ex:
            future.set_exception(ex)
            raise
        self._silent = {path: each for path, each in self._silent.items() if vm_of(path) in found}
        future.set_result(tuple(found.values()))

    def _look_at(self, path: Path) -> WorkerInfo:
        """Find out how one worker does."""
        info = self._question(path, DOUBT if path in self._silent else PATIENCE)
        if info.state is not WorkerState.UNRESPONSIVE:
            self._silent.pop(path, None)
            return info
        pid = self._silent.setdefault(path, _Silent()).process(path)
        return msgspec.structs.replace(info, pid=pid)

    def _question(self, path: Path, patience: float) -> WorkerInfo:
        """Ask a worker who it is and what state its VM is in."""
        deadline = time.monotonic() + patience
        call = self._peers.call
        told = partial(WorkerInfo, name=vm_of(path))
        pid: int | None = None
        try:
            pid = call(path, Operation.VMM_PING, None, timeout=patience).pid
            left = max(0.001, deadline - time.monotonic())
            state: VmState = call(path, Operation.VM_INFO, None, timeout=left).state
        except VmFailure as ex:
            if ex.error.code is ErrorCode.VM_NOT_CREATED:
                return told(state=WorkerState.NOT_CREATED, pid=pid)
            silent = ex.error.code is ErrorCode.VMM_TIMEOUT
            return told(
                state=WorkerState.UNRESPONSIVE if silent else WorkerState.UNAVAILABLE,
                pid=pid,
                detail=ex.error.message,
            )
        return told(state=WorkerState(state), pid=pid)


def _listener(path: Path) -> int | None:
    """Ask the kernel who listens there; one whose queue is full is not asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return None
        return credentials_of(probe).pid
