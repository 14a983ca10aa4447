# SPDX-License-Identifier: Apache-2.0
"""Names of VMs, and where the worker of a VM listens."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from ipc_protocol.errors import ErrorCode, VmFailure

__all__ = [
    "IPC_FILE",
    "MAX_PATH_BYTES",
    "RUNTIME_DIR",
    "check_name",
    "endpoint",
    "ipc_path",
    "is_name",
    "vm_of",
]

RUNTIME_DIR = os.environ.get("VELUM_RUNTIME_DIR", "/run/velum")
"""Where sockets live unless a command line says otherwise."""

MAX_PATH_BYTES = 107
"""``sun_path`` of unix(7) has 108 bytes, the last for the NUL."""

IPC_FILE = "vmm.ipc"
"""What the socket of a worker is called, in the folder that has the name of its VM."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Tell whether a VM can have this name."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return the name of a VM unchanged if it is one.

    A name is one DNS label, because the HTTP ``Host`` carries it, and in lower case,
    because it becomes a file name. Nothing else may reach a path.

    Raises:
        VmFailure: ``vm_unknown``, as no VM can have such a name.
    """
    if not is_name(name):
        raise VmFailure(
            ErrorCode.VM_UNKNOWN,
            f"{name[:80]!a} cannot be the name of a VM: a name is 1 to 63 of a-z, 0-9 and '-', "
            "with no '-' at either end",
        )
    return name


@functools.lru_cache(maxsize=1024)
def ipc_path(runtime_dir: str | os.PathLike[str], name: str) -> Path:
    """Return the socket path of the worker that runs the VM of that name.

    Each worker has a folder of its own, so that each can belong to a user of its own.
    """
    return Path(runtime_dir) / check_name(name) / IPC_FILE


def vm_of(path: Path) -> str:
    """Return the name of the VM whose worker listens there.

    A path of somebody's own choosing, which :func:`ipc_path` did not make, gives the name that
    its file has.
    """
    return path.parent.name if path.name == IPC_FILE else path.stem


def endpoint(path: str | os.PathLike[str]) -> str:
    """Return the ZeroMQ endpoint for a socket path.

    Raises:
        VmFailure: ``host_resource`` for a path that no UNIX socket can have.
    """
    text = os.fspath(path)
    length = len(os.fsencode(text))
    if not 0 < length <= MAX_PATH_BYTES or "\0" in text:
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"{text!a} cannot be the path of a UNIX socket: it has {length} bytes, "
            f"1 to {MAX_PATH_BYTES} are possible; choose a shorter directory",
        )
    # libzmq reads a leading "@" as the abstract namespace and "*" as a wildcard.
    return f"ipc://{text}" if text[0] not in "@*" else f"ipc://./{text}"
