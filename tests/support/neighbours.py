# SPDX-License-Identifier: Apache-2.0
"""A VM under systemd for others to break into: what it has, and where that is."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipc_protocol.client import Client
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import Operation, VmState
from ipc_protocol.names import ipc_path
from tests.support import guests
from tests.support.processes import eventually, make_file, vm_config

__all__ = ["Neighbour", "forget", "neighbour", "systemctl"]

_RUNTIME: Final = Path("/run/velum")
_STATE: Final = Path("/var/lib/velum")
_CONFIGURATIONS: Final = Path("/etc/velum/vms")
_DISK_SIZE: Final = 1 << 20
_PMEM_SIZE: Final = 2 << 20
_TIMEOUT: Final = 300.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A VM that runs, as root sees it."""

    unit: str
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
    unit = f"velum-vmm@{name}.service"
    configuration = _CONFIGURATIONS / f"{name}.json"
    folder, vsock = _STATE / name, _RUNTIME / name / "vsock.sock"
    tap = f"{name[:8]}0"
    kernel = _STATE / "images" / f"{name}.elf"
    folder.mkdir(parents=True)
    try:
        _CONFIGURATIONS.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(guests.build("count"), kernel)
        config = vm_config(
            kernel,
            cpus={"boot_vcpus": 1, "max_vcpus": 1, "affinity": [{"vcpu": 0, "host_cpus": [0]}]},
            memory={"size": 16 << 20, "shared": True},
            disks=[{"path": make_file(folder / "disk.img", _DISK_SIZE)}],
            pmem=[{"file": make_file(folder / "memory.img", _PMEM_SIZE)}],
            net=[{"tap": tap, "ip": "192.168.231.1", "mask": "255.255.255.0"}],
            balloon={"size": 0},
            vsock={"cid": 3, "socket": str(vsock)},
            serial={"mode": "Socket", "socket": str(_RUNTIME / name / "serial.sock")},
            console={"mode": "Pty"},
            watchdog=True,
            landlock_enable=True,
            host={"taps": "prepare"},
        )
        configuration.write_text(json.dumps(config))
        systemctl("start", unit)
        eventually(lambda: _runs(name), f"{unit} runs its guest")
        pid = int(systemctl("show", "-P", "MainPID", unit))
        yield Neighbour(
            unit=unit,
            pid=pid,
            uid=Path(f"/proc/{pid}").stat().st_uid,
            ram_descriptor=_descriptor(pid, "/memfd:"),
            ram_address=_ram(pid) + guests.COUNTERS,
            kvm_descriptor=_descriptor(pid, "anon_inode:kvm-vm"),
            disk=folder.resolve() / "disk.img",
            sockets=_RUNTIME / name,
            vsock=vsock,
            tap=tap,
            configuration=configuration,
            copy=_RUNTIME / name / "vm.json",
        )
    finally:
        _ask(name, Operation.VM_DELETE)  # this guest hears of no power button
        systemctl("stop", unit)
        configuration.unlink(missing_ok=True)
        kernel.unlink(missing_ok=True)
        forget(name)


def forget(name: str) -> None:
    """Remove the disks of a VM that has stopped, and the link to them."""
    folder = _STATE / name
    shutil.rmtree(folder.resolve(), ignore_errors=True)
    if folder.is_symlink():
        folder.unlink()


def systemctl(*arguments: str) -> str:
    """Run it, and return what it prints."""
    result = subprocess.run(
        ["systemctl", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert result.returncode == 0, f"systemctl {' '.join(arguments)}: {result.stderr}"
    return result.stdout.strip()


def _runs(name: str) -> bool:
    info = _ask(name, Operation.VM_INFO)
    return info is not None and info.state is VmState.RUNNING


def _ask(name: str, operation: Operation) -> Any:
    with Client(ipc_path(_RUNTIME, name)) as client, contextlib.suppress(VmFailure):
        return client.call(operation)
    return None


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
