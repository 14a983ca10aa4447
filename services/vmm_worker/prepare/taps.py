# SPDX-License-Identifier: Apache-2.0
"""Taps for a worker that may not make any: they are there before it starts."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipc_protocol.errors import VmFailure
from vmm_worker.devices.interface import Interface
from vmm_worker.devices.tap import Tap, set_up

if TYPE_CHECKING:
    from ipc_protocol.config_host import VmFile

__all__ = ["make_taps", "remove_taps"]

_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOWNER: Final = 0x400454CC


def make_taps(file: VmFile, user: int) -> None:
    """Make what taps are missing, for a user; one that is there is the administrator's.

    Raises:
        VmFailure: ``host_resource``.
    """
    for index, net in enumerate(file.net):
        pointer = f"/net/{index}/tap"
        if net.tap is None or Interface(net.tap).exists:
            continue
        tap = Tap(net.tap, net.num_queues // 2, pointer)
        try:
            set_up(tap, net)
            fcntl.ioctl(tap.descriptors[0], _TUNSETOWNER, user)
            fcntl.ioctl(tap.descriptors[0], _TUNSETPERSIST, 1)
        except OSError as ex:
            raise VmFailure.of_host(f"{net.tap} cannot be given to user {user}", ex).at(
                pointer
            ) from ex
        finally:
            tap.close()


def remove_taps(file: VmFile, user: int) -> None:
    """Remove those of the file's taps that belong to a user."""
    for index, net in enumerate(file.net):
        if net.tap is None or _owner(net.tap) != user:
            continue
        tap = Tap(net.tap, net.num_queues // 2, f"/net/{index}/tap")
        try:
            fcntl.ioctl(tap.descriptors[0], _TUNSETPERSIST, 0)
        finally:
            tap.close()


def _owner(name: str) -> int | None:
    try:
        return int(Path("/sys/class/net", name, "owner").read_text())
    except OSError:
        return None  # It is gone, or no tap.
