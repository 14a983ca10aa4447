# SPDX-License-Identifier: Apache-2.0
"""From the manager to the service: descriptors that it opened for it."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

__all__ = ["Passed", "listen_fds"]

_FIRST: Final = 3
_NAMELESS: Final = "unknown"
"""What systemd calls a descriptor that nobody named."""


class Passed(NamedTuple):
    """A descriptor that was opened by the manager and is this process's own now."""

    name: str
    """``FileDescriptorName=`` of its unit, or else the name of that."""
    fd: int


def listen_fds() -> tuple[Passed, ...]:
    """Take over what the manager passed to this process; a second call finds nothing.

    Children neither inherit the descriptors nor believe that they were meant.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    owner = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if owner != str(os.getpid()) or not count.isdecimal():
        return ()
    passed = []
    for index in range(int(count)):
        os.set_inheritable(_FIRST + index, False)  # noqa: FBT003 - its only form
        name = names[index] if index < len(names) and names[index] else _NAMELESS
        passed.append(Passed(name, _FIRST + index))
    return tuple(passed)
