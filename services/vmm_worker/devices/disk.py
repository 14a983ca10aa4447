# SPDX-License-Identifier: Apache-2.0
"""The host's side of a disk: a raw image or a block device, open and locked."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from ipc_protocol.config_devices import LockGranularity
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim.virtio.block import Block, BlockConfig, BlockEngine, create_block
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.limiters import LimiterGroup
from vmm_worker.devices.locks import lock_file, unlock_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipc_protocol.config_devices import DiskConfig, RateLimitGroupConfig
    from kvm_shim import Vm
    from kvm_shim.virtio.place import Place

__all__ = ["Disk"]

_SECTOR: Final = 512
_SERIAL_SIZE: Final = 20


class Disk(Backend):
    """An image, open and locked while the VM is there.

    It is raw whatever it contains: a guest could write itself the header of another format.

    Args:
        device_id: The device's id.
        config: Its configuration; valid.
        pointer: Where in the request the configuration is, such as "/disks/0".
        groups: The VM's rate limit groups.
        others: The devices opened before: those of its group share its limit.

    Raises:
        VmFailure: If the file cannot be used.
    """

    def __init__(
        self,
        device_id: str,
        config: DiskConfig,
        *,
        pointer: str,
        groups: Iterable[RateLimitGroupConfig] = (),
        others: Iterable[Backend] = (),
    ) -> None:
        super().__init__(device_id)
        self._config = config
        self._pointer = pointer
        self._limiter = self._find_limiter(groups, others)
        self._fd = self._open()
        try:
            self._serial = self._check()
            self._lock()
        except BaseException:
            self.close()
            raise

    def attach(self, vm: Vm, place: Place) -> Block:
        """Make the disk of a new machine."""
        config = self._config
        parts = BlockConfig(
            fd=self._fd,
            readonly=config.readonly,
            sparse=config.sparse,
            engine=BlockEngine.THREADS if config.disable_io_uring else BlockEngine.AUTO,
            num_queues=config.num_queues,
            queue_size=config.queue_size,
            serial=self._serial,
            limiter=self._limiter.attach(vm) if self._limiter else None,
        )
        return create_block(vm, place, parts)

    def limit_of(self, group: str) -> LimiterGroup | None:
        """Return the limit of a group, if this disk is in it."""
        return self._limiter if self._config.rate_limit_group == group else None

    def close(self) -> None:
        """Unlock and close the file."""
        if self._fd >= 0:
            unlock_file(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _find_limiter(
        self, groups: Iterable[RateLimitGroupConfig], others: Iterable[Backend]
    ) -> LimiterGroup | None:
        own, group = self._config.rate_limiter_config, self._config.rate_limit_group
        if group is None:
            return None if own is None else LimiterGroup(own)
        shared = (other.limit_of(group) for other in others if isinstance(other, Disk))
        mine = (LimiterGroup(each.rate_limiter_config) for each in groups if each.id == group)
        return next(filter(None, shared), None) or next(mine)

    def _open(self) -> int:
        config = self._config
        access = os.O_RDONLY if config.readonly else os.O_RDWR
        direct = os.O_DIRECT if config.direct else 0
        # O_NONBLOCK: a FIFO is an error, not a wait without end.
        flags = access | direct | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            return os.open(config.path, flags)
        except (OSError, ValueError) as ex:  # ValueError: a NUL in the path
            reason = getattr(ex, "strerror", None) or str(ex)
            match getattr(ex, "errno", None):
                case errno.EACCES | errno.EPERM | errno.EROFS if not config.readonly:
                    reason += (
                        f" for user {os.geteuid()}, who is the worker's; what the guest is only "
                        "to read needs readonly"
                    )
                case errno.EINVAL if config.direct:
                    reason += "; its file system may not know direct I/O: turn direct off"
            raise self._failure(reason) from ex

    def _check(self) -> bytes:
        """Return its serial number, if it is something that can be a disk."""
        status = os.fstat(self._fd)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise self._failure("it is neither a regular file nor a block device")
        if os.lseek(self._fd, 0, os.SEEK_END) < _SECTOR:
            raise self._failure("it is empty; give it a size (truncate -s 10G)")
        # I/O is to wait for the disk, not to be told that it would have to.
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
        serial = self._config.serial
        if serial is None:
            # The same image has the same one, without a configuration that says so.
            serial = f"{status.st_dev}{status.st_rdev}{status.st_ino}"
        return serial.encode()[:_SERIAL_SIZE]

    def _lock(self) -> None:
        config = self._config
        whole = config.lock_granularity is LockGranularity.FULL
        length = 0 if whole else os.lseek(self._fd, 0, os.SEEK_END)
        try:
            lock_file(self._fd, exclusive=not config.readonly, length=length)
        except BlockingIOError as ex:
            others = "writes to it" if config.readonly else "uses it"
            raise self._failure(f"it is locked: another VM, or another program, {others}") from ex
        except OSError as ex:
            raise self._failure(f"it cannot be locked: {ex.strerror}") from ex

    def _failure(self, reason: str) -> VmFailure:
        pointer = f"{self._pointer}/path"
        return VmFailure(
            ErrorCode.FILE_UNAVAILABLE,
            f"{pointer}: {self._config.path} cannot be a disk: {reason}",
            causes=(reason,),
            fields=(FieldError(pointer, reason),),
        )
