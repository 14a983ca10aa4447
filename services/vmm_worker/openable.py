# SPDX-License-Identifier: Apache-2.0
"""What a worker has to open for its VM, and for itself: the policy of its confinement."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ipc_protocol.config import LandlockAccess, VmConfig
from ipc_protocol.config_devices import SerialMode
from kvm_shim.landlock import Access
from vmm_worker.machine.host import HUGE_PAGES, MEMINFO

__all__ = ["Openable", "named", "of_process"]

_READ: Final = Access.READ
_BOTH: Final = Access.READ | Access.WRITE
_DEVICE: Final = _BOTH | Access.CONTROL
_FOLDER: Final = _BOTH | Access.MAKE
"""Of a directory for sockets, each of which has a lock file beside it."""

_RULES: Final = {
    LandlockAccess.READ: _READ,
    LandlockAccess.WRITE: Access.WRITE | Access.MAKE | Access.CONTROL,
    LandlockAccess.BOTH: _FOLDER | Access.CONTROL,
}
_PSEUDO_TERMINALS: Final = ("/dev/ptmx", "/dev/pts")
_LIBRARIES: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"),
)
"""Where the interpreter and the C library look for parts of theirs when they first need them."""


class Openable(NamedTuple):
    """A file, or a directory and what is in it."""

    path: str
    access: Access
    pointer: str = ""
    """What names it in the configuration; none for what may be missing."""


def named(config: VmConfig) -> Iterator[Openable]:
    """Yield what a configuration names, when its devices are open."""
    yield from _files(config)
    yield from _terminals(config)
    for index, _ in enumerate(config.net):
        from vmm_worker.devices.tap import TUN  # noqa: PLC0415 - loaded with such a device

        yield Openable(TUN, _DEVICE, f"/net/{index}/tap")
    if config.vsock is not None:
        yield Openable(_folder(config.vsock.socket), _FOLDER, "/vsock/socket")
    for index, rule in enumerate(config.landlock_rules):
        yield Openable(rule.path, _RULES[rule.access], f"/landlock_rules/{index}/path")


def of_process(config: VmConfig, *, kvm: str, ipc: Path) -> Iterator[Openable]:
    """Yield what the worker itself needs to go on with such a VM.

    Args:
        config: What it is made of.
        kvm: The KVM device.
        ipc: Where the worker listens: it removes that when it ends, and the folder with it.
    """
    yield Openable(kvm, _DEVICE)
    yield Openable(os.devnull, _BOTH)
    if config.net:
        from vmm_worker.devices.net import VHOST_NET  # noqa: PLC0415 - as above

        yield Openable(VHOST_NET, _DEVICE)
    if SerialMode.TTY in {config.serial.mode, config.console.mode}:
        # The shim opens a terminal once more, so as not to change what others see of it.
        yield from (Openable(f"/proc/self/fd/{fd}", _DEVICE) for fd in (0, 1) if os.isatty(fd))
    for path in ("/proc/self", MEMINFO, HUGE_PAGES, *_LIBRARIES, *sys.path):
        yield Openable(path or ".", _READ)
    yield Openable(_folder(ipc), Access.MAKE)
    yield Openable(str(Path(ipc).absolute().parents[1]), Access.CLEAR)


def _files(config: VmConfig) -> Iterator[Openable]:
    payload = config.payload
    for name, path in (("kernel", payload.kernel), ("initramfs", payload.initramfs)):
        if path is not None:
            yield Openable(path, _READ, f"/payload/{name}")
    for index, disk in enumerate(config.disks):
        # A block device is asked for its size.
        access = (_READ if disk.readonly else _BOTH) | Access.CONTROL
        yield Openable(disk.path, access, f"/disks/{index}/path")
    for index, pmem in enumerate(config.pmem):
        access = _READ if pmem.discard_writes else _BOTH
        yield Openable(pmem.file, access, f"/pmem/{index}/file")
    yield Openable(config.rng.src, _READ, "/rng/src")


def _terminals(config: VmConfig) -> Iterator[Openable]:
    for owner, terminal in (("serial", config.serial), ("console", config.console)):
        if terminal.mode is SerialMode.FILE and terminal.file:
            yield Openable(terminal.file, Access.WRITE, f"/{owner}/file")
        if terminal.mode is SerialMode.SOCKET and terminal.socket:
            yield Openable(_folder(terminal.socket), _FOLDER, f"/{owner}/socket")
        if terminal.mode is SerialMode.PTY:
            for path in _PSEUDO_TERMINALS:
                yield Openable(path, _DEVICE, f"/{owner}/mode")


def _folder(path: str | Path) -> str:
    return str(Path(path).parent)
