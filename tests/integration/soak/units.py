# SPDX-License-Identifier: Apache-2.0
"""The VMs of a soak as units of systemd, with the package installed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from ipc_protocol.names import RUNTIME_DIR
from tests.integration.soak.host import DISK_BYTES, guest_config
from tests.support.hostile import serving
from tests.support.systemd import API, DISKS, SOCKET, UnitVm, installed_guest, main_pid, systemctl

__all__ = ["UnitHost"]

_SOCKET_UNIT: Final = "velum-api.socket"
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
        self.socket = SOCKET
        self._vms = {name: UnitVm(name) for name in names}
        self._configured = configured
        self._kernel = installed_guest("button")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.start_api()
            for vm in self._vms.values():
                vm.start()
                _make_disk(vm.folder)
            for name in self._configured:
                self._vms[name].file.write_text(json.dumps(self.config(name)))
                systemctl("restart", self._vms[name].unit)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all units and leave nothing of the VMs."""
        for vm in self._vms.values():
            vm.remove()
        self.stop_api()

    def config(self, name: str) -> dict[str, Any]:
        """Return the body of a VM's ``vm.create``."""
        return guest_config(self._kernel, DISKS / name, Path(RUNTIME_DIR) / name)

    def kill(self, name: str) -> None:
        """Kill a worker; systemd starts another."""
        process = os.pidfd_open(self._vms[name].pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poller = select.poll()
            poller.register(process, select.POLLIN)
            assert poller.poll(_GONE_MS), f"{name} does not end"
        finally:
            os.close(process)

    def workers(self) -> dict[str, int]:
        """Return the process of each VM's worker."""
        return {name: vm.pid for name, vm in self._vms.items()}

    def api(self) -> int:
        """Return the process that serves."""
        return serving(main_pid(API))

    def start_api(self) -> None:
        """Listen; the first connection starts the service."""
        systemctl("start", _SOCKET_UNIT)

    def stop_api(self) -> None:
        """Stop the service, and nothing may start it."""
        systemctl("stop", _SOCKET_UNIT, API)

    def folders(self) -> tuple[Path, ...]:
        """Return the folders of all sockets and files."""
        return Path(RUNTIME_DIR), DISKS, _PRIVATE

    def cgroups(self) -> tuple[Path, ...]:
        """Return the control groups of the slice."""
        return tuple(path for path in _CGROUPS.rglob("*") if path.is_dir())


def _make_disk(folder: Path) -> None:
    """Make the disk in a VM's folder, as its user's own."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    owner = folder.stat()
    os.chown(disk, owner.st_uid, owner.st_gid)
