# SPDX-License-Identifier: Apache-2.0
"""Calls that were made with a key: a retry of one is answered as the first was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from ipc_protocol import codec
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.server import Incoming

__all__ = ["AGE", "KEPT", "Keys", "fingerprint"]

KEPT: Final = 256
"""Calls that succeeded; beyond these the oldest is forgotten."""
AGE: Final = 24 * 3600.0
"""Seconds for which a call that succeeded is known."""

_T = TypeVar("_T")


class _Entry(NamedTuple, Generic[_T]):
    asked: bytes
    what: _T
    succeeded: float | None
    """When (as the clock says); ``None`` while it is under way."""


class Keys(Generic[_T]):
    """What became of each key. One that failed is free again: a retry is another try."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry[_T]] = {}

    def find(self, key: str, asked: bytes) -> _T | None:
        """Return what was made of a call with this key, if there was one.

        Raises:
            VmFailure: ``idempotency_conflict``, it asked for something else.
        """
        self._expire()
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.asked != asked:
            raise VmFailure(
                ErrorCode.IDEMPOTENCY_CONFLICT,
                f"the Idempotency-Key {key} was used for another request; use a key once, "
                "and again only for a retry with the same body",
            )
        return entry.what

    def begin(self, key: str, asked: bytes, what: _T) -> None:
        """Take a key for a call that is under way."""
        self._entries[key] = _Entry(asked, what, None)

    def end(self, key: str, *, succeeded: bool) -> None:
        """Keep what a call came to, if it is a success."""
        entry = self._entries.pop(key)
        if succeeded:
            # At the end: those that succeeded are in the order in which they did.
            self._entries[key] = entry._replace(succeeded=self._clock())
        self._expire()

    def _expire(self) -> None:
        kept = [key for key, entry in self._entries.items() if entry.succeeded is not None]
        oldest = self._clock() - AGE
        for rank, key in enumerate(reversed(kept)):
            if rank >= KEPT or (self._entries[key].succeeded or 0.0) < oldest:
                del self._entries[key]


def fingerprint(incoming: Incoming) -> bytes:
    """Return what two requests have in common only if they ask for the same."""
    context = incoming.context
    asked = codec.encode([incoming.operation, context.dry_run, incoming.body])
    # SipHash under a secret of this process. hashlib would bring the megabytes of OpenSSL, as
    # machine code that a confined worker cannot load.
    return hash(asked).to_bytes(8, "little", signed=True)
