# SPDX-License-Identifier: Apache-2.0
"""The process gives up, for good, to open anything but what its VM is made of (Landlock).

The kernel confines a thread and those that the thread begins, so each that there is has to do
it: the operations thread, which builds the VM and begins the threads of its vCPUs and devices;
the control loop, when it is asked to; and those that need no file at all, as they begin.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import zmq

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim.errors import ShimError
from kvm_shim.landlock import Access, Ruleset, landlock_version

if TYPE_CHECKING:
    from vmm_worker.openable import Openable

__all__ = ["Landlock", "landlocked_context", "open_nothing"]

_log = logging.getLogger(__name__)

_PATIENCE: Final = 60.0
"""Seconds for the control loop to come round; it never takes long, but a host may."""


class _Place(NamedTuple):
    """A file as it was when it was allowed: the kernel knows it by its inode, not by its name."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Self:
        status = Path(path).stat()
        return cls(status.st_dev, status.st_ino)


class Landlock:
    """What this process may still open.

    All methods but :meth:`follow` are for the operations thread.

    Args:
        kvm: The KVM device.
        ipc: Where the worker listens.
    """

    def __init__(self, *, kvm: str, ipc: Path) -> None:
        self._kvm = kvm
        self._ipc = ipc
        self._allowed: dict[_Place, Access] | None = None
        self._asked: Ruleset | None = None
        self._refusal: ShimError | None = None
        self._followed = threading.Event()
        # The directory of a process comes and goes in the kernel's memory unless it is in use.
        self._self = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when the control loop has to :meth:`follow`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._self)

    def check(self, config: VmConfig) -> None:
        """Refuse a VM that needs what cannot be opened any more.

        Raises:
            VmFailure: ``file_unavailable``, with every field at fault.
        """
        if self._allowed is None:
            return
        from vmm_worker.openable import named  # noqa: PLC0415 - as below

        fields = tuple(
            FieldError(each.pointer, f"{each.path} {reason}")
            for each in named(config)
            if (reason := self._lacks(each))
        )
        if fields:
            raise VmFailure(
                ErrorCode.FILE_UNAVAILABLE,
                f"{fields[0].pointer}: {fields[0].message}: until it ends, this worker can open "
                "only what it was confined to when it first booted a VM (landlock_enable); "
                "restart the worker",
                fields=fields,
            )

    def enter(self, config: VmConfig) -> None:
        """Confine the whole process to what a VM needs, if its configuration asks for it.

        Raises:
            VmFailure: ``host_resource`` where the kernel cannot; ``file_unavailable`` for a
                file that is not there.
        """
        if not config.landlock_enable or self._allowed is not None:
            return
        from vmm_worker.openable import named, of_process  # noqa: PLC0415 - many are never confined

        version = landlock_version()
        if not version:
            raise _failure(
                ErrorCode.HOST_RESOURCE,
                "/landlock_enable",
                "this host's kernel has no Landlock, or it is not among those of lsm= at the "
                "host's boot; leave landlock_enable out to go without",
            )
        allowed: dict[_Place, Access] = {}
        needed = (*named(config), *of_process(config, kvm=self._kvm, ipc=self._ipc))
        with Ruleset() as ruleset:
            for each in needed:
                place = _allow(ruleset, each)
                if place is not None:
                    allowed[place] = allowed.get(place, Access(0)) | each.access
            self._restrict_all(ruleset)
        self._allowed = allowed
        _log.info("confined to %d files and directories (Landlock %d)", len(allowed), version)

    def follow(self) -> None:
        """Confine the control loop's thread as well."""
        os.eventfd_read(self.fd)
        if self._asked is not None:
            try:
                self._asked.restrict()
            except ShimError as ex:
                self._refusal = ex
        self._followed.set()

    def _restrict_all(self, ruleset: Ruleset) -> None:
        """Confine the two threads that open files; the others never could."""
        self._asked = ruleset
        self._refusal = None
        self._followed.clear()
        os.eventfd_write(self.fd, 1)
        in_time = self._followed.wait(_PATIENCE)
        self._asked = None
        if not in_time:
            reason = "the control loop does not respond"
            raise _failure(ErrorCode.HOST_RESOURCE, "/landlock_enable", reason)
        if self._refusal is not None:
            raise _failure(ErrorCode.HOST_RESOURCE, "/landlock_enable", str(self._refusal))
        ruleset.restrict()

    def _lacks(self, wanted: Openable) -> str:
        """Return why something cannot be opened, or nothing when it can."""
        path = Path(wanted.path).resolve()
        need, have = wanted.access, Access(0)
        if not path.exists():
            need |= Access.MAKE
        for each in (path, *path.parents):
            with contextlib.suppress(OSError):
                have |= (self._allowed or {}).get(_Place.of(str(each)), Access(0))
        return "" if need in have else "is not among what may be opened"


def landlocked_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return a ZeroMQ context whose threads can open no file."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def begin() -> None:
        open_nothing()
        # The first socket of a context begins its threads.
        context.socket(zmq.PAIR).close()

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    return context


def open_nothing() -> None:
    """Give up, on this thread, to open any file, where the kernel has a way to."""
    if landlock_version():
        with Ruleset() as nothing:
            nothing.restrict()


def _allow(ruleset: Ruleset, each: Openable) -> _Place | None:
    """Allow something, and return what it is; nothing for what is not there and may be so."""
    try:
        ruleset.allow(each.path, each.access)
        return _Place.of(each.path)
    except OSError as ex:
        if not each.pointer:
            return None
        reason = f"{each.path}: {os.strerror(ex.errno or 0)}"
        raise _failure(ErrorCode.FILE_UNAVAILABLE, each.pointer, reason) from ex


def _failure(code: ErrorCode, pointer: str, reason: str) -> VmFailure:
    return VmFailure(code, f"{pointer}: {reason}", fields=(FieldError(pointer, reason),))
