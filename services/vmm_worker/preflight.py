# SPDX-License-Identifier: Apache-2.0
"""What a trial of ``vm.create`` finds out of the host: every lack at once, and nothing is kept.

``vm.create`` itself does not look: who creates a VM may make its files before the boot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from ipc_protocol.config import VmConfig
from ipc_protocol.config_devices import SerialMode
from ipc_protocol.errors import ErrorCode, FieldError, VmError, VmFailure
from vmm_worker.machine.cpuid import GuestCpuid
from vmm_worker.machine.host import check_memory, check_vcpus, probe
from vmm_worker.machine.memory import low_ram_end
from vmm_worker.machine.payload import Payload

__all__ = ["check_host"]

_DISK: Final = (stat.S_ISREG, stat.S_ISBLK)
_REGULAR: Final = (stat.S_ISREG,)
_SOURCE: Final = (stat.S_ISREG, stat.S_ISCHR)


def check_host(config: VmConfig, *, kvm: str) -> None:
    """Look whether this host has what a configuration needs.

    What only trying can tell is left to the boot: locks, taps, addresses in use.

    Args:
        config: What would be built; valid.
        kvm: The KVM device.

    Raises:
        VmFailure: With the code of the first thing that is missing, and the fields of all.
    """
    errors = [*_files(config), *_outcome(partial(_machine, config, kvm))]
    if not any(pointer.startswith("/payload/") for pointer in _pointers(errors)):
        errors += _outcome(partial(_payload, config))
    if errors:
        first, rest = errors[0], len(errors) - 1
        more = f" (and {rest} more)" if rest else ""
        raise VmFailure(
            first.code,
            f"{first.message}{more}",
            causes=first.causes,
            fields=tuple(field for error in errors for field in error.fields),
        )


def _outcome(check: Callable[[], None]) -> list[VmError]:
    try:
        check()
    except VmFailure as ex:
        return [ex.error]
    return []


def _pointers(errors: list[VmError]) -> Iterator[str]:
    return (field.pointer for error in errors for field in error.fields)


def _machine(config: VmConfig, kvm: str) -> None:
    host, supported = probe(kvm)
    cpuid = GuestCpuid(supported, config.cpus)
    check_vcpus(config.cpus, host, cpuid)
    check_memory(config.memory, cpuid.physical_bits)


def _payload(config: VmConfig) -> None:
    with Payload.open(config.payload, low_ram_end(config.memory.size)):
        pass


def _files(config: VmConfig) -> Iterator[VmError]:
    """Look at every path of a configuration."""
    payload = config.payload
    for name, path in (("kernel", payload.kernel), ("initramfs", payload.initramfs)):
        if path is not None:
            yield from _file(f"/payload/{name}", path, _REGULAR)
    for index, disk in enumerate(config.disks):
        yield from _file(f"/disks/{index}/path", disk.path, _DISK, write=not disk.readonly)
    for index, pmem in enumerate(config.pmem):
        write = not pmem.discard_writes
        yield from _file(f"/pmem/{index}/file", pmem.file, _DISK, write=write)
    yield from _file("/rng/src", config.rng.src, _SOURCE)
    for owner, terminal in (("serial", config.serial), ("console", config.console)):
        if terminal.mode is SerialMode.FILE and terminal.file:
            yield from _place(f"/{owner}/file", terminal.file)
        if terminal.mode is SerialMode.SOCKET and terminal.socket:
            yield from _place(f"/{owner}/socket", terminal.socket)
    if config.vsock is not None:
        yield from _place("/vsock/socket", config.vsock.socket)


def _file(
    pointer: str, path: str, kinds: tuple[Callable[[int], bool], ...], *, write: bool = False
) -> Iterator[VmError]:
    """Look at a file that has to be there."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as ex:
        yield _lack(pointer, path, ex.strerror or str(ex))
        return
    if not any(kind(mode) for kind in kinds):
        yield _lack(pointer, path, "it is not the kind of file that is needed here")
    elif not os.access(path, os.R_OK | (os.W_OK if write else 0), effective_ids=True):
        how = "read and written" if write else "read"
        yield _lack(pointer, path, f"it cannot be {how} by the worker's user")


def _place(pointer: str, path: str) -> Iterator[VmError]:
    """Look at the directory of a file or socket that the boot will make."""
    folder = Path(path).parent
    if not folder.is_dir():
        yield _lack(pointer, path, f"there is no directory {folder}")
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True) and not Path(path).exists():
        yield _lack(pointer, path, f"the worker's user cannot make files in {folder}")


def _lack(pointer: str, path: str, reason: str) -> VmError:
    return VmError(
        code=ErrorCode.FILE_UNAVAILABLE,
        message=f"{pointer}: {path}: {reason}",
        causes=(reason,),
        fields=(FieldError(pointer, reason),),
    )
