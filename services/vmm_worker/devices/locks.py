# SPDX-License-Identifier: Apache-2.0
"""Advisory locks on the files of a guest: one writer, or any number of readers.

They belong to the open file, so that another VM of the same process is kept out like any
other, and end with its last descriptor, whatever becomes of the process.
"""

from __future__ import annotations

import fcntl
import os
import struct

__all__ = ["lock_file", "unlock_file"]

_FLOCK = "hhqqi4x"
"""``struct flock`` on x86-64: type, whence, start, length, pid."""


def lock_file(fd: int, *, exclusive: bool, length: int = 0) -> None:
    """Lock an open file, or refuse at once.

    Args:
        fd: The file; open for writing if the lock is exclusive.
        exclusive: Whether it is written.
        length: How much of it from its start; 0 for all there ever is.

    Raises:
        BlockingIOError: Somebody else has it.
    """
    _set_lock(fd, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, length)


def unlock_file(fd: int) -> None:
    """Unlock a file that something else may have open a little longer.

    The kernel takes an io_uring and the files registered with it apart when it comes to it,
    some time after the ring was closed.
    """
    _set_lock(fd, fcntl.F_UNLCK, 0)


def _set_lock(fd: int, kind: int, length: int) -> None:
    request = struct.pack(_FLOCK, kind, os.SEEK_SET, 0, length, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
