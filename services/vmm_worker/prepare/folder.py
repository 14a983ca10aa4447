# SPDX-License-Identifier: Apache-2.0
"""The folder below ``/run/velum`` that belongs to one VM's user."""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from pathlib import Path
from typing import Final

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.names import IPC_FILE

__all__ = ["MARK", "VM_FILE", "give_back", "make_folder", "remove_folder"]

VM_FILE: Final = "vm.json"
"""The worker's copy of the file that describes its VM; empty where there is none."""
MARK: Final = "booted"
"""What a worker leaves beside its socket that ends without having tidied up."""
_API_GROUP: Final = "velum-api"
_MODE: Final = 0o2710
"""The group may pass and see nothing, and what is made in the folder is the group's."""
_KEPT: Final = (IPC_FILE, MARK)
"""What a worker that crashed leaves for the next one: who asks for it meanwhile finds that
nobody listens, not that there is no such VM."""


def make_folder(folder: Path, user: int, vm_file: bytes) -> None:
    """Make the folder for a user, with a copy of the file that describes the VM.

    Raises:
        VmFailure: ``host_resource``.
    """
    group = _api_group()
    try:
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        # Nobody but root enters it while it is filled.
        os.chown(folder, 0, 0)
        folder.chmod(0o700)
        _clear(folder, user, group)
        copy = folder / VM_FILE
        copy.write_bytes(vm_file)
        os.chown(copy, user, group)
        copy.chmod(0o400)
        os.chown(folder, user, group)
        folder.chmod(_MODE)
    except OSError as ex:
        raise VmFailure.of_host(f"the runtime folder {folder} cannot be made", ex) from ex


def give_back(folder: Path) -> None:
    """Take the folder from a user whose number will be another's; an empty one goes."""
    if folder.exists():
        os.chown(folder, 0, 0)
        folder.chmod(0o700)
        _clear(folder, 0, 0)
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        os.chown(folder, 0, _api_group())
        folder.chmod(_MODE)


def remove_folder(folder: Path) -> None:
    """Remove the folder with all that is in it."""
    if folder.exists():
        from shutil import rmtree  # noqa: PLC0415 - it loads compressors

        rmtree(folder)


def _clear(folder: Path, user: int, group: int) -> None:
    for entry in list(os.scandir(folder)):
        status = entry.stat(follow_symlinks=False)
        whole = status.st_nlink == 1 and (
            stat.S_ISSOCK(status.st_mode) or stat.S_ISREG(status.st_mode)
        )
        if entry.name in _KEPT and whole:
            os.chown(entry.path, user, group, follow_symlinks=False)
        elif entry.is_dir(follow_symlinks=False):
            remove_folder(Path(entry.path))
        else:
            Path(entry.path).unlink()


def _api_group() -> int:
    try:
        return grp.getgrnam(_API_GROUP).gr_gid
    except KeyError as ex:
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"there is no group {_API_GROUP}: 'systemd-sysusers velum.conf' makes it",
        ) from ex
