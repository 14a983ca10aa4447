# SPDX-License-Identifier: Apache-2.0
"""What of the file system a thread may still open (Landlock)."""

import errno
import os
from enum import IntFlag
from typing import Self

from kvm_shim._native import lib
from kvm_shim.errors import ShimError
from kvm_shim.handle import checked

__all__ = ["Access", "Ruleset", "landlock_version"]


class Access(IntFlag):
    """What is allowed of a file, or of everything below a directory."""

    READ = lib.KVMSHIM_LANDLOCK_READ
    WRITE = lib.KVMSHIM_LANDLOCK_WRITE
    MAKE = lib.KVMSHIM_LANDLOCK_MAKE
    CONTROL = lib.KVMSHIM_LANDLOCK_CONTROL
    CLEAR = lib.KVMSHIM_LANDLOCK_CLEAR


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has; 0 for none."""
    try:
        return checked(lib.kvmshim_landlock_version)
    except ShimError as ex:
        if ex.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


class Ruleset:
    """What is allowed: at first nothing, neither a file nor TCP.

    Raises:
        ShimError: The kernel has no Landlock.
    """

    def __init__(self) -> None:
        self._fd = checked(lib.kvmshim_landlock_create)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def allow(self, path: str | os.PathLike[str], access: Access) -> None:
        """Allow something of the file or directory that a path names now.

        Raises:
            ShimError: It is not there, say.
        """
        checked(lib.kvmshim_landlock_allow, self._fd, os.fsencode(path), access)

    def restrict(self) -> None:
        """Allow the calling thread, and those that it makes from now on, nothing else, for good.

        Raises:
            ShimError: The kernel refuses.
        """
        checked(lib.kvmshim_landlock_restrict, self._fd)

    def close(self) -> None:
        """Close it; whom it restricts stays restricted."""
        os.close(self._fd)
