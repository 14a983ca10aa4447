# SPDX-License-Identifier: Apache-2.0
"""The VMs of a soak as units of systemd, with the package installed."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from ipc_protocol.names import RUNTIME_DIR
from tests.integration.soak.host import DISK_BYTES, guest_config
from tests.support.guests import build
from tests.support.hostile import serving

__all__ = ["UnitHost"]

_API: Final = ("velum-api.socket", "velum-api.service")
_CONFIGURATIONS: Final = Path("/etc/velum/vms")
_STATE: Final = Path("/var/lib/velum")
_PRIVATE: Final = Path("/var/lib/private/velum")
"""Where a dynamic user's part of it really is."""
_CGROUPS: Final = Path("/sys/fs/cgroup/velum.slice")
_GONE_MS: Final = 120_000


class UnitHost:
    """An instance of ``velum-vmm@.service`` for each VM, and the API by its socket.

    Args:
        names: Of the VMs.
        configured: Those among them that have a file in ``/etc/velum/vms``.
    """

    def __init__(self, names: Sequence[str], configured: Sequence[str]) -> None:
        self.socket = Path(RUNTIME_DIR) / "api.sock"
        self._names = names
        self._configured = configured
        self._kernel = _STATE / "images" / "soak.elf"
        self._units = [_unit(name) for name in names]

    def __enter__(self) -> Self:
        shutil.copyfile(build("button"), self._kernel)
        self.start_api()
        _systemctl("start", *self._units)
        for name in self._names:
            _make_disk(_STATE / name)
        for name in self._configured:
            (_CONFIGURATIONS / f"{name}.json").write_text(json.dumps(self.config(name)))
        _systemctl("restart", *map(_unit, self._configured))
        return self

    def __exit__(self, *_: object) -> None:
        _systemctl("stop", *self._units)
        self.stop_api()
        self._kernel.unlink()
        for name in self._configured:
            (_CONFIGURATIONS / f"{name}.json").unlink()

    def config(self, name: str) -> dict[str, Any]:
        """Return the body of a VM's ``vm.create``."""
        return guest_config(self._kernel, _STATE / name, Path(RUNTIME_DIR) / name)

    def kill(self, name: str) -> None:
        """Kill a worker; systemd starts another."""
        process = os.pidfd_open(_main_pid(_unit(name)))
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poller = select.poll()
            poller.register(process, select.POLLIN)
            assert poller.poll(_GONE_MS), f"{name} does not end"
        finally:
            os.close(process)

    def workers(self) -> dict[str, int]:
        """Return the process of each VM's worker."""
        return {name: _main_pid(_unit(name)) for name in self._names}

    def api(self) -> int:
        """Return the process that serves."""
        return serving(_main_pid(_API[1]))

    def start_api(self) -> None:
        """Listen; the first connection starts the service."""
        _systemctl("start", _API[0])

    def stop_api(self) -> None:
        """Stop the service, and nothing may start it."""
        _systemctl("stop", *_API)

    def folders(self) -> tuple[Path, ...]:
        """Return the folders of all sockets and files."""
        return Path(RUNTIME_DIR), _STATE, _PRIVATE

    def cgroups(self) -> tuple[Path, ...]:
        """Return the control groups of the slice."""
        return tuple(path for path in _CGROUPS.rglob("*") if path.is_dir())


def _unit(name: str) -> str:
    return f"velum-vmm@{name}.service"


def _systemctl(*words: str) -> str:
    return subprocess.check_output(["systemctl", *words], text=True)


def _main_pid(unit: str) -> int:
    pid = int(_systemctl("show", "--property=MainPID", "--value", unit))
    assert pid, f"{unit} has no process: {_systemctl('show', '--property=Result', unit)}"
    return pid


def _make_disk(folder: Path) -> None:
    """Make the disk in a VM's folder, as its user's own."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    owner = folder.stat()
    os.chown(disk, owner.st_uid, owner.st_gid)
