# SPDX-License-Identifier: Apache-2.0
"""A VM under systemd for others to break into: what it has, and where that is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import guests
from tests.support.processes import make_file
from tests.support.systemd import DISKS, UnitVm

__all__ = ["Neighbour", "neighbour"]

_RUNTIME: Final = Path("/run/velum")
_DISK_SIZE: Final = 1 << 20
_PMEM_SIZE: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A VM that runs, as root sees it."""

    pid: int
    uid: int
    ram_descriptor: int
    """Of the worker's: the file that is the guest's memory."""
    ram_address: int
    """In the worker: where the guest counts."""
    kvm_descriptor: int
    """Of the worker's: the VM that KVM runs."""
    disk: Path
    """Where it really is: the folder of its name is a link to there."""
    sockets: Path
    """The folder of them."""
    vsock: Path
    tap: str
    configuration: Path
    copy: Path
    """The worker's own, of the configuration."""


@contextlib.contextmanager
def neighbour(name: str) -> Iterator[Neighbour]:
    """Have systemd run a VM with every kind of device, and leave nothing of it behind."""
    sockets, tap = _RUNTIME / name, f"{name[:8]}0"
    vsock = sockets / "vsock.sock"
    folder = DISKS / name
    folder.mkdir()
    parts = {
        "cpus": {"boot_vcpus": 1, "max_vcpus": 1, "affinity": [{"vcpu": 0, "host_cpus": [0]}]},
        "memory": {"size": 16 << 20, "shared": True},
        "disks": [{"path": make_file(folder / "disk.img", _DISK_SIZE)}],
        "pmem": [{"file": make_file(folder / "memory.img", _PMEM_SIZE)}],
        "net": [{"tap": tap, "ip": "192.168.231.1", "mask": "255.255.255.0"}],
        "balloon": {"size": 0},
        "vsock": {"cid": 3, "socket": str(vsock)},
        "serial": {"mode": "Socket", "socket": str(sockets / "serial.sock")},
        "console": {"mode": "Pty"},
        "watchdog": True,
        "landlock_enable": True,
    }
    vm = UnitVm(name, guest="count", host={"taps": "prepare"}, parts=parts)
    try:
        vm.start()
        vm.wait_for("Running")
        yield Neighbour(
            pid=vm.pid,
            uid=Path(f"/proc/{vm.pid}").stat().st_uid,
            ram_descriptor=_descriptor(vm.pid, "/memfd:"),
            ram_address=_ram(vm.pid) + guests.COUNTERS,
            kvm_descriptor=_descriptor(vm.pid, "anon_inode:kvm-vm"),
            disk=folder.resolve() / "disk.img",
            sockets=sockets,
            vsock=vsock,
            tap=tap,
            configuration=vm.file,
            copy=sockets / "vm.json",
        )
    finally:
        vm.remove()


def _descriptor(pid: int, target: str) -> int:
    """Return the number of the first descriptor that is of a kind."""
    links = {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number, link in sorted(links.items()) if link.startswith(target))


def _ram(pid: int) -> int:
    """Return where the first file without a name is mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    mapped = re.search(r"^([0-9a-f]+)-.*/memfd:", maps, re.MULTILINE)
    assert mapped, f"process {pid} maps no memory of a guest"
    return int(mapped[1], 16)
