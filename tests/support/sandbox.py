# SPDX-License-Identifier: Apache-2.0
"""A process that may be told to do anything, and can change nothing but a folder."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

__all__ = ["sandbox"]

_CLONE_NEWNS, _CLONE_NEWNET = 0x2_0000, 0x4000_0000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_ADDRESS_SPACE = 8 << 30
"""Bytes; who may ask for any amount of RAM is not to get it."""

_libc = ctypes.CDLL(None, use_errno=True)


def sandbox(folder: Path) -> Callable[[], None]:
    """Return what a new process does first: a network and a view of the files of its own.

    Who is not root can do little harm as it is, and only has its memory limited.
    """

    def enter() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        if os.geteuid() != 0:
            return
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET))
        _mount("/", "/", _RECURSIVE | _PRIVATE)
        _mount(str(folder), str(folder), _BIND)
        _mount("/", "/", _REMOUNT | _BIND | _READ_ONLY)

    return enter


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(source.encode(), target.encode(), None, flags, None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
