# SPDX-License-Identifier: Apache-2.0
"""How far an operation is, and whether it is to go on: between its thread and those who ask."""

from __future__ import annotations

from typing import NamedTuple

from ipc_protocol.errors import VmFailure

__all__ = ["Point", "Progress"]


class Point(NamedTuple):
    """Where an operation is."""

    stage: str = ""
    """"" before the first, and for an operation that has none."""
    fraction: float | None = None
    """How much of the stage is done; ``None`` where that cannot be known."""


class Progress:
    """One operation's. The operation tells its stages; anyone may look, or cancel it.

    Each point it tells is one where it can be cancelled: it undoes there what it has begun.
    """

    def __init__(self) -> None:
        self.point = Point()
        """Replaced as a whole, so any thread may look."""
        self._cancelled: VmFailure | None = None

    def enter(self, stage: str) -> None:
        """Begin the next stage.

        Raises:
            VmFailure: The operation was cancelled.
        """
        self._check()
        self.point = Point(stage)

    def advance(self, fraction: float) -> None:
        """Say how much of the stage is done.

        Raises:
            VmFailure: The operation was cancelled.
        """
        self._check()
        self.point = self.point._replace(fraction=fraction)

    def cancel(self, failure: VmFailure) -> None:
        """Have the operation fail with this at the next point that it tells."""
        self._cancelled = failure

    def _check(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled
