# SPDX-License-Identifier: Apache-2.0
"""What the API has to answer for a VM, known from nothing but what was answered before."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple

__all__ = ["OPERATIONS", "OUTCOMES", "Outcome", "VmModel", "WrongAnswerError"]

NOTHING: Final = "NotCreated"
CREATED: Final = "Created"
RUNNING: Final = "Running"
PAUSED: Final = "Paused"
SHUTDOWN: Final = "Shutdown"

_HISTORY: Final = 30
"""What a failure shows of what was asked before."""


class WrongAnswerError(AssertionError):
    """The API said what cannot be."""


class Outcome(NamedTuple):
    """How one operation in one state has to be answered, and the state after it."""

    status: int
    code: str | None
    """Of the error, if it is one."""
    state: str
    boots: bool = False
    """Whether the guest begins anew."""


def _no(status: int, code: str, state: str) -> Outcome:
    return Outcome(status, code, state)


def _row(
    nothing: str | None,
    created: str | None,
    running: str | None,
    paused: str | None,
    shutdown: str | None,
    *,
    boots: bool = False,
    status: int = 204,
) -> dict[str, Outcome]:
    """Make a row of the table: per state the next one, or the code of a refusal."""
    columns = (NOTHING, CREATED, RUNNING, PAUSED, SHUTDOWN)
    row = {}
    for state, cell in zip(columns, (nothing, created, running, paused, shutdown), strict=True):
        if cell is None:
            row[state] = _no(404, "vm_not_created", state)
        elif cell in columns:
            row[state] = Outcome(status, None, cell, boots)
        else:
            row[state] = _no(409, cell, state)
    return row


_EXISTS: Final = "vm_already_created"
_STOPPED: Final = "vm_not_running"
_RUNS: Final = "vm_already_running"

OUTCOMES: Final[dict[str, dict[str, Outcome]]] = {
    "vm.create": _row(CREATED, _EXISTS, _EXISTS, _EXISTS, _EXISTS),
    "vm.boot": _row(None, RUNNING, _RUNS, _RUNS, RUNNING, boots=True),
    "vm.pause": _row(None, _STOPPED, PAUSED, "vm_already_paused", _STOPPED),
    "vm.resume": _row(None, _STOPPED, "vm_not_paused", RUNNING, _STOPPED),
    "vm.reboot": _row(None, _STOPPED, RUNNING, RUNNING, _STOPPED, boots=True),
    "vm.shutdown": _row(None, _STOPPED, CREATED, CREATED, _STOPPED),
    "vm.delete": _row(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING),
    "vm.counters": _row(None, _STOPPED, RUNNING, PAUSED, _STOPPED, status=200),
}
"""Operation -> state -> what has to come of it."""
OPERATIONS: Final = tuple(OUTCOMES)


@dataclass
class VmModel:
    """One VM as its clients know it.

    Whoever changes it holds :attr:`busy`; whoever looks at it does so by :meth:`seen`.
    """

    name: str
    configured: bool = False
    """Whether its worker boots it by itself, from a file."""
    state: str = NOTHING
    boots: int = 0
    killed_at: float = float("-inf")
    """``time.monotonic()`` of the last time."""
    busy: Lock = field(default_factory=Lock)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    _possible: frozenset[str] = frozenset((NOTHING,))
    _epoch: int = 0

    def begin(self, *after: str) -> None:
        """Note that something is under way after which the state is one of these, or as it was."""
        self._epoch += 1
        self._possible |= set(after)

    def settle(self, state: str, boots: int) -> None:
        """Note what it came to."""
        self.state, self.boots = state, boots
        self._possible = frozenset((state,))
        self._epoch += 1

    def seen(self) -> tuple[int, frozenset[str]]:
        """Return a number that changes with the states that are possible, and these states."""
        return self._epoch, self._possible

    def note(self, what: str) -> None:
        """Remember a request and its answer, for the report of a failure."""
        self.history.append(what)

    def wrong(self, what: str) -> WrongAnswerError:
        """Return the failure for an answer that cannot be."""
        return WrongAnswerError("\n  ".join([f"{self.name}: {what}; before that:", *self.history]))
