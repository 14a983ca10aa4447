# SPDX-License-Identifier: Apache-2.0
"""The file that describes this worker's VM, as ``/etc/velum/vms`` has one for each."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.validation import parse_file
from service_manager.journal import journal_stream

if TYPE_CHECKING:
    from ipc_protocol.config_host import HostConfig, VmFile

__all__ = ["open_console", "parse_vm_file", "read_vm_file"]


def read_vm_file(path: Path) -> VmFile | None:
    """Return the VM that a file describes; ``None`` for an empty one, which describes none.

    Raises:
        VmFailure: ``host_resource`` where it cannot be read, ``invalid_config`` or
            ``not_supported`` with every field at fault.
    """
    try:
        text = path.read_bytes()
    except OSError as ex:
        raise VmFailure.of_host(f"the VM's file {path} cannot be read", ex) from ex
    return parse_vm_file(text) if text.strip() else None


def parse_vm_file(text: bytes) -> VmFile:
    """Return the VM that a file's text describes.

    Raises:
        VmFailure: ``invalid_config`` or ``not_supported``, with every field at fault.
    """
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as ex:
        raise VmFailure(ErrorCode.INVALID_CONFIG, f"the VM's file is no JSON: {ex}") from ex
    if isinstance(document, dict):
        document.pop("$schema", None)  # What an editor goes by.
        if _keeps_console(document.get("host")):
            document.setdefault("serial", {"mode": "Tty"})
    return parse_file(document)


def open_console(host: HostConfig) -> None:
    """Have what the guest says where the host keeps it, in place of the worker's stdout.

    Raises:
        VmFailure: ``host_resource``.
    """
    if host.console is None:
        return
    try:
        stream = journal_stream("velum-console")
    except OSError as ex:
        problem = "there is no journal on this host; leave it out"
        raise VmFailure.of_host(problem, ex).at("/host/console") from ex
    os.dup2(stream, sys.stdout.fileno())
    os.close(stream)


def _keeps_console(host: object) -> bool:
    return isinstance(host, dict) and host.get("console") is not None
