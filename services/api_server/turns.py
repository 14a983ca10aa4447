# SPDX-License-Identifier: Apache-2.0
"""How many threads may wait for one worker: never so many that others get none.

A worker that has just answered may have all but a few. One that is silent may have half as many
as are free, so it holds a third of what others leave, the next one a third of the rest, and so
on. Beyond that requests wait for their turn, and are refused once the worker has been silent for
a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipc_protocol.errors import ErrorCode, VmFailure

__all__ = ["PATIENCE", "THREADS", "Turns"]

THREADS: Final = 32
"""How many a server has unless it is told otherwise."""

PATIENCE: Final = 1.0
"""Seconds of silence after which nobody more waits."""

_KEPT: Final = 8
"""One thread in this many is kept from a worker although it answers: it may stop any moment."""
_LEAST: Final = 2
"""Whatever others have: something long, and a look at how far it is."""
_SILENCE: Final = frozenset({ErrorCode.VMM_TIMEOUT, ErrorCode.VMM_UNAVAILABLE})


@dataclass(eq=False, slots=True)
class _Load:
    """What one worker has to do."""

    turn: threading.Condition
    calls: int = 0
    waiting: int = 0
    heard: float = field(default_factory=time.monotonic)
    """When it last answered, or was last asked after it had nothing to do."""


class Turns:
    """Shares the threads of the server between the workers.

    Args:
        threads: How many there are.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._calls = 0
        self._loads: dict[Path, _Load] = {}

    @contextlib.contextmanager
    def take(self, worker: Path) -> Iterator[None]:
        """Have a turn with a worker, for one call of it.

        Raises:
            VmFailure: ``vmm_unavailable``, it has its share and does not answer.
        """
        with self._lock:
            load = self._loads.setdefault(worker, _Load(threading.Condition(self._lock)))
            self._wait(load, worker)
            load.calls += 1
            self._calls += 1
        silent = False
        try:
            yield
        except VmFailure as ex:
            silent = ex.error.code in _SILENCE
            raise
        finally:
            with self._lock:
                load.calls -= 1
                self._calls -= 1
                if not silent:
                    load.heard = time.monotonic()
                self._pass_on(load, worker)

    def _wait(self, load: _Load, worker: Path) -> None:
        load.waiting += 1
        try:
            while not self._admits(load):
                left = load.heard + PATIENCE - time.monotonic()
                if left <= 0:
                    raise VmFailure(
                        ErrorCode.VMM_UNAVAILABLE,
                        f"the worker at {worker} does not answer, and {load.calls} requests wait "
                        "for it already: look at what its process does, or end it",
                    )
                load.turn.wait(left)
        finally:
            load.waiting -= 1

    def _admits(self, load: _Load) -> bool:
        free = self._threads - self._calls
        if load.calls < max(_LEAST, free // 2):
            return True
        answers = time.monotonic() - load.heard < PATIENCE
        return answers and free > max(1, self._threads // _KEPT)

    def _pass_on(self, load: _Load, worker: Path) -> None:
        """Wake one of those who wait for each worker: there is a thread more for each."""
        if not load.calls and not load.waiting:
            del self._loads[worker]
        for each in self._loads.values():
            if each.waiting:
                each.turn.notify()
