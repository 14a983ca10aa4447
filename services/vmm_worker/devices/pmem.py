# SPDX-License-Identifier: Apache-2.0
"""Persistent memory: a file of the host that the guest has in its address space."""

from __future__ import annotations

import errno
import os
import stat

from ipc_protocol.config_devices import PmemConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim import Device, Vm
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.pmem import create_pmem
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.locks import lock_file
from vmm_worker.machine.memory import PMEM_ALIGNMENT

__all__ = ["Pmem"]

_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class Pmem(Backend):
    """A file, open and locked while the VM is there.

    Args:
        device_id: The device's id.
        config: Its configuration; valid.
        gpa: Where the guest has it, see ``pmem_start``; the next one goes to :attr:`end`.
        pointer: Where in the request the configuration is, such as "/pmem/0".

    Raises:
        VmFailure: If the file cannot be used.
    """

    def __init__(self, device_id: str, config: PmemConfig, gpa: int, *, pointer: str) -> None:
        super().__init__(device_id)
        self._file = config.file
        self._pointer = pointer
        self._discard_writes = config.discard_writes
        self._gpa = gpa
        self._fd = self._open()
        try:
            self._size = self._check_size(config.size)
            self._lock()
        except BaseException:
            self.close()
            raise

    @property
    def end(self) -> int:
        """The first guest address behind it."""
        return self._gpa + self._size

    def attach(self, vm: Vm, place: Place) -> Device:
        """Make the memory of a new machine."""
        return create_pmem(
            vm,
            place,
            fd=self._fd,
            gpa=self._gpa,
            size=self._size,
            discard_writes=self._discard_writes,
        )

    def close(self) -> None:
        """Close the file, and so unlock it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        # Writes that are discarded never reach the file: it need not be writable for them.
        access = os.O_RDONLY if self._discard_writes else os.O_RDWR
        try:
            # O_NONBLOCK: a FIFO is an error, not a wait without end.
            return os.open(self._file, access | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError) as ex:  # ValueError: a NUL in the path
            reason = getattr(ex, "strerror", None) or str(ex)
            if getattr(ex, "errno", None) in _READ_ONLY and not self._discard_writes:
                reason += "; what is only to be read needs discard_writes"
            raise self._failure(reason) from ex

    def _check_size(self, wanted: int | None) -> int:
        mode = os.fstat(self._fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise self._failure("it is neither a regular file nor a block device")
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if wanted is not None and wanted > size:
            raise self._failure(f"it has {size} bytes, less than the {wanted} of its size field")
        if wanted is None and (size == 0 or size % PMEM_ALIGNMENT):
            raise self._failure(
                f"it has {size} bytes, not a multiple of 2 MiB; extend it (truncate -s %2M), or "
                "give a size within it"
            )
        return size if wanted is None else wanted

    def _lock(self) -> None:
        try:
            lock_file(self._fd, exclusive=not self._discard_writes)
        except OSError as ex:
            raise self._failure("it is locked; another VM uses it, or another program") from ex

    def _failure(self, reason: str) -> VmFailure:
        pointer = f"{self._pointer}/file"
        return VmFailure(
            ErrorCode.FILE_UNAVAILABLE,
            f"{pointer}: the file {self._file} cannot be persistent memory: {reason}",
            causes=(reason,),
            fields=(FieldError(pointer, reason),),
        )
