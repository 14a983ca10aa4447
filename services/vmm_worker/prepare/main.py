# SPDX-License-Identifier: Apache-2.0
"""``prepare-vm``: the command line.

systemd runs it as root around the worker, whose user it has made by then.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.names import RUNTIME_DIR, check_name
from vmm_worker.prepare.ends import explain
from vmm_worker.prepare.folder import give_back, make_folder, remove_folder

if TYPE_CHECKING:
    from ipc_protocol.config_host import VmFile

__all__ = ["main", "make_parser"]

_VM_FILES: Final = Path("/etc/velum/vms")
_UNIT: Final = "velum-vmm@{name}.service"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a worker's place, or clear it, and return the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        name = check_name(options.name)
        folder = Path(RUNTIME_DIR, name)
        path = _VM_FILES / f"{name}.json"
        text = _text(path)
        if options.remove:
            result = os.environ.get("SERVICE_RESULT", "")
            if line := explain(result, name, path):
                sys.stderr.write(f"{line}\n")
            _remove(folder, _parse(text), ended_well=result == "success")
        else:
            _prepare(name, folder, text)
    except VmFailure as ex:
        sys.stderr.write(": ".join(("prepare-vm", ex.error.message, *ex.error.causes)) + "\n")
        return 1
    except OSError as ex:
        sys.stderr.write(f"prepare-vm: {ex}\n")
        return 1
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return what parses the command line."""
    parser = argparse.ArgumentParser(
        prog="prepare-vm",
        description="Make the folder, the limits and the taps of a VM whose worker is to start.",
    )
    parser.add_argument("name", metavar="NAME", help="of the VM")
    parser.add_argument(
        "--remove", action="store_true", help="the worker has ended: clear what was made for it"
    )
    return parser


def _prepare(name: str, folder: Path, text: bytes) -> None:
    user = _user()
    make_folder(folder, user, text)
    from vmm_worker.prepare.limits import set_limits  # noqa: PLC0415 - after the folder is there

    file = _parse(text)
    set_limits(_UNIT.format(name=name), file)
    if file is not None and file.host.taps == "prepare":
        from vmm_worker.prepare.taps import make_taps  # noqa: PLC0415 - if there are any

        make_taps(file, user)


def _remove(folder: Path, file: VmFile | None, *, ended_well: bool) -> None:
    if file is not None and file.host.taps == "prepare":
        from vmm_worker.prepare.taps import remove_taps  # noqa: PLC0415 - if there are any

        remove_taps(file, _user())
    if ended_well:
        remove_folder(folder)
    else:
        give_back(folder)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as ex:
        raise VmFailure.of_host(f"the VM's file {path} cannot be read", ex) from ex


def _parse(text: bytes) -> VmFile | None:
    """Return the VM; none where the text is wrong, as the worker says so and is not restarted."""
    if not text.strip():
        return None
    from vmm_worker.vm_file import parse_vm_file  # noqa: PLC0415 - if there is one

    try:
        return parse_vm_file(text)
    except VmFailure:
        return None


def _user() -> int:
    """Return the VM's user, to whom systemd has given the state directory."""
    try:
        return Path(os.environ["STATE_DIRECTORY"]).stat().st_uid
    except (KeyError, OSError) as ex:
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            "there is no $STATE_DIRECTORY, whose owner is the VM's user: this is for the unit "
            "velum-vmm@.service",
        ) from ex
