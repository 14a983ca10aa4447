# SPDX-License-Identifier: Apache-2.0
"""The limits of a VM's unit, from the file that describes the VM."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipc_protocol.errors import ErrorCode, VmFailure

if TYPE_CHECKING:
    from ipc_protocol.config_host import VmFile

__all__ = ["properties", "set_limits"]

_SET: Final = Path("/run/systemd/system.control")
"""Where systemd keeps what was set for a unit while it runs."""
_NONE: Final = (
    "MemoryMax=infinity",
    "CPUQuota=",
    "CPUWeight=",
    "IOWeight=",
    "IOReadBandwidthMax=",
    "IOWriteBandwidthMax=",
    "TasksMax=",
)


def set_limits(unit: str, file: VmFile | None) -> None:
    """Give a unit its limits, and take away those of an earlier file.

    Raises:
        VmFailure: ``host_resource``.
    """
    if file is None and not (_SET / f"{unit}.d").exists():
        return
    wanted = () if file is None else properties(file)
    # By name, in which order systemd expects its own files.
    limits = sorted((*_NONE, *wanted), key=lambda each: each.partition("=")[0])
    command = ("systemctl", "set-property", "--runtime", unit, *limits)
    done = subprocess.run(  # noqa: S603 - of a checked name and checked values
        command, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"the limits of /host cannot be set: {' '.join(command[4:])}",
            causes=tuple(done.stderr.strip().splitlines()),
        )


def properties(file: VmFile) -> Iterator[str]:
    """Return the limits as systemd.resource-control(5) has them."""
    host = file.host
    yield f"MemoryMax={file.memory_max}"
    yield f"CPUQuota={file.cpu_quota}%"
    for name, value in (
        ("CPUWeight", host.cpu_weight),
        ("IOWeight", host.io_weight),
        ("TasksMax", host.tasks_max),
    ):
        if value is not None:
            yield f"{name}={value}"
    yield from _bandwidths("IOReadBandwidthMax", host.io_read_bandwidth_max)
    yield from _bandwidths("IOWriteBandwidthMax", host.io_write_bandwidth_max)


def _bandwidths(name: str, limits: Mapping[str, int] | None) -> Iterator[str]:
    for path, most in (limits or {}).items():
        yield f"{name}={path} {most}"
