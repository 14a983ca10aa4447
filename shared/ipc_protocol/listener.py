# SPDX-License-Identifier: Apache-2.0
"""A UNIX socket path that one process owns: locked, private from the start, cleaned up."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from ipc_protocol.errors import ErrorCode, VmFailure

__all__ = ["MODE", "SocketPath", "lock_path"]

MODE: Final = 0o660
"""For the owner and the group, unless it is said otherwise."""
_BACKLOG: Final = 128


def lock_path(path: str | os.PathLike[str]) -> Path:
    """Return the file that is locked by who has the path, or is about to have it."""
    return Path(f"{os.fspath(path)}.lock")


class SocketPath:
    """The lock on a path and the listening socket bound to it.

    Args:
        path: Where it is.
        mode: Who may connect, as the permission bits of the socket's file.
        group: The file's group, by number; that of this process when ``None``.

    Raises:
        VmFailure: ``host_resource``.
    """

    def __init__(self, path: str, *, mode: int = MODE, group: int | None = None) -> None:
        self.path = path
        self._lock = _lock(path)
        try:
            _remove_stale(path)
            self._listener: socket.socket | None = _bind(path, mode, group)
        except BaseException:
            self._unlock()
            raise

    def detach(self) -> int:
        """Hand the listening descriptor over; closing it is the caller's from now on."""
        listener, self._listener = self._listener, None
        if listener is None:
            raise RuntimeError("the listening descriptor was handed over before")
        return listener.detach()

    def close(self) -> None:
        """Remove the socket, then the lock."""
        if self._lock < 0:
            return
        if self._listener is not None:
            self._listener.close()
        _unlink(self.path)
        self._unlock()

    def _unlock(self) -> None:
        # While the lock is held: who opens the file before this finds it gone from the
        # directory when it gets the lock, and opens anew.
        _unlink(str(lock_path(self.path)))
        os.close(self._lock)
        self._lock = -1


def _refuse(path: str, why: str, ex: OSError | None = None) -> VmFailure:
    causes = () if ex is None else (ex.strerror or str(ex),)
    return VmFailure(ErrorCode.HOST_RESOURCE, f"cannot listen at {path}: {why}", causes=causes)


def _lock(path: str) -> int:
    name = str(lock_path(path))
    while True:
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as ex:
            raise _refuse(path, f"its lock file {name} cannot be opened", ex) from ex
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(name, lock):
                os.ftruncate(lock, 0)
                os.write(lock, b"%d\n" % os.getpid())
                return lock
        except BlockingIOError as ex:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise _refuse(path, f"{who} listens there already") from ex
        except OSError as ex:
            os.close(lock)
            raise _refuse(path, f"its lock file {name} cannot be locked", ex) from ex
        # Its last owner removed it between our open and our lock.
        os.close(lock)


def _is_still(name: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(Path(name).lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_stale(path: str) -> None:
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as ex:
        raise _refuse(path, "the path cannot be looked at", ex) from ex
    if not stat.S_ISSOCK(mode):
        raise _refuse(path, "what is there is no socket, and is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        result = probe.connect_ex(path)
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise _refuse(path, "a process that does not hold its lock listens there")
    try:
        _unlink(path)
    except OSError as ex:
        raise _refuse(path, "the stale socket cannot be removed", ex) from ex


def _bind(path: str, mode: int, group: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The inode takes the mode of the socket less the umask, so nobody can connect but the
        # owner until it has its group; chmod then gives the others their share.
        os.fchmod(listener.fileno(), mode & 0o700)
        listener.bind(path)
        if group is not None:
            os.chown(path, -1, group)
        Path(path).chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as ex:
        listener.close()
        raise _refuse(path, "the socket cannot be made", ex) from ex
    return listener


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
