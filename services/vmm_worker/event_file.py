# SPDX-License-Identifier: Apache-2.0
"""``--event-monitor``: the events written out as they happen, never waiting for their reader."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.monitor import EventsQuery, shown
from vmm_worker.monitor import Monitor

__all__ = ["EventFile", "EventTarget"]

_log = logging.getLogger(__name__)

_MODE: Final = 0o640


class EventTarget(NamedTuple):
    """Where events are to be written: one of the two."""

    path: str | None = None
    fd: int | None = None

    def __str__(self) -> str:
        return f"fd={self.fd}" if self.path is None else f"path={self.path}"


class EventFile:
    """Writes each event as indented JSON with an empty line after it.

    What its reader is too slow for stays in the monitor, as long as that keeps it.

    Args:
        monitor: Has the events.
        target: Where to write them.

    Raises:
        VmFailure: ``file_unavailable``.
    """

    def __init__(self, monitor: Monitor, target: EventTarget) -> None:
        self._monitor = monitor
        self._target = target
        self._after = 0
        self._rest = b""
        try:
            self.fd = _open(target)
        except OSError as ex:
            raise VmFailure(
                ErrorCode.FILE_UNAVAILABLE,
                f"--event-monitor {target}: it cannot be written to",
                causes=(ex.strerror or str(ex),),
            ) from ex
        self._broken = False

    @property
    def blocked(self) -> bool:
        """Whether there is more, and no room for it; :attr:`fd` becomes writable then."""
        return bool(self._rest) and not self._broken

    def write(self) -> None:
        """Write what fits of what was not written yet."""
        while not self._broken and self._flush():
            batch = self._monitor.answer(EventsQuery(self._monitor.epoch, self._after))
            if not batch.events:
                return
            missed = batch.events[0].seq - self._after - 1
            if missed:
                _log.warning(
                    "--event-monitor %s: %d events were not written, its reader is too slow",
                    self._target,
                    missed,
                )
            self._after = batch.events[-1].seq
            self._rest = b"".join(
                msgspec.json.format(msgspec.json.encode(shown(event)), indent=2) + b"\n\n"
                for event in batch.events
            )

    def close(self) -> None:
        """Write what fits, and let go."""
        self.write()
        if self.blocked:
            _log.warning(
                "--event-monitor %s: the last events were not written, its reader is too slow",
                self._target,
            )
        os.close(self.fd)

    def _flush(self) -> bool:
        """Write what is left of the last batch; return whether that is all."""
        try:
            while self._rest:
                self._rest = self._rest[os.write(self.fd, self._rest) :]
        except BlockingIOError:
            return False
        except OSError as ex:
            _log.warning(
                "--event-monitor %s: no more events are written: %s", self._target, ex.strerror
            )
            self._broken = True
            return False
        return True


def _open(target: EventTarget) -> int:
    if target.path is None:
        return _inherited(target.fd)
    # A FIFO without a reader cannot be opened for writing only. What was written before
    # there is one waits in it.
    writing = os.O_RDWR if Path(target.path).is_fifo() else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.open(target.path, writing | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)


def _inherited(fd: int | None) -> int:
    if fd is None:
        raise TypeError("an event monitor has a path or a descriptor")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(None, "it is open for reading only")
    os.set_inheritable(fd, False)  # noqa: FBT003
    os.set_blocking(fd, False)
    return fd
