# SPDX-License-Identifier: Apache-2.0
"""Velum and QEMU with the same guest and the same devices, both up at once, to be loaded in turn.

What is compared runs back to back then, however the machine's mood changes, and each VMM boots
only once.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.guests.linux import Guest
from tests.integration.performance.processes import ROOT, cpu_seconds, running
from tests.support.agent import Agent
from tests.testbed.cpio import archive, script

__all__ = ["DISK_SIZE", "Load", "Peer", "load_program", "peers"]

DISK_SIZE = 256 << 20
_MEMORY = 512
_CMDLINE = "console=ttyS0 quiet panic=-1 reboot=t velum.do=agent"
_PORT = 5201
_SOURCE = Path(__file__).parent / "load.c"
_GUEST_TIMEOUT = 120.0


class Load(NamedTuple):
    """What one run of the load program came to."""

    operations: int
    bytes: int
    seconds: float
    cpu_seconds: float
    """Of the VMM's process and of the kernel's threads that work for it."""


def load_program() -> Path:
    """Compile the load program, unless it has been."""
    program = ROOT / "build/load"
    if not program.exists() or program.stat().st_mtime < _SOURCE.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-Wall", "-Wextra", "-Werror")
        libraries = ("-luring", "-lpthread")
        command = ["gcc", *flags, "-o", str(program), str(_SOURCE), *libraries]
        subprocess.run(command, check=True)
    return program


@dataclass(frozen=True)
class _Net:
    """A tap interface and the two ends' addresses."""

    tap: str
    host: str
    guest: str
    mac: str
    vhost: bool


class Peer:
    """One VMM with its guest up.

    Args:
        name: What it is called in the table.
        process: The VMM.
        kernel_threads: Those that work for it.
        agent: Runs commands in the guest.
        nets: Its network interfaces, in the guest's order.
    """

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        kernel_threads: set[int],
        agent: Agent,
        nets: list[_Net],
    ) -> None:
        self.name = name
        self.agent = agent
        self._processes = {process.pid} | kernel_threads
        self._hosts = {net.vhost: net.host for net in nets}
        for index, net in enumerate(nets):
            agent.check(f"ip addr add {net.guest}/30 dev eth{index} && ip link set eth{index} up")

    def disk(
        self, access: str, order: str, *, block: int, depth: int, jobs: int, seconds: float
    ) -> Load:
        """Read or write the disk in the guest."""
        return self._load(
            f"disk /dev/vda {access} {order} {block} {depth} {jobs} {seconds}", seconds
        )

    def stream(self, direction: str, streams: int, seconds: float, *, vhost: bool) -> Load:
        """Send or receive by TCP."""
        address = f"tcp:{self._hosts[vhost]}:{_PORT}"
        return self._load(f"stream {address} {direction} {streams} {seconds}", seconds)

    def ping(self, seconds: float, *, vhost: bool) -> Load:
        """Send one byte by TCP and wait for its echo, again and again."""
        return self._load(f"ping tcp:{self._hosts[vhost]}:{_PORT} {seconds}", seconds)

    def vsock(self, what: str, seconds: float) -> Load:
        """Send, receive or ping over a virtio socket."""
        if what == "ping":
            return self._load(f"ping vsock:2:{_PORT} {seconds}", seconds)
        return self._load(f"stream vsock:2:{_PORT} {what} 1 {seconds}", seconds)

    def _load(self, command: str, seconds: float) -> Load:
        before = cpu_seconds(self._processes)
        result = json.loads(self.agent.check(f"/load {command}", timeout=seconds + _GUEST_TIMEOUT))
        cpu = cpu_seconds(self._processes) - before
        return Load(result["operations"], result["bytes"], result["seconds"], cpu)


def _vhost_threads() -> set[int]:
    """Find the threads of the kernel that do some VMM's work; they tell not whose."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith("vhost-"):
                found.add(int(path.parent.name))
    return found


def _guest_with_load(guest: Guest, directory: Path) -> Path:
    initramfs = directory / "initramfs"
    initramfs.write_bytes(
        guest.initramfs.read_bytes() + archive([script("load", load_program().read_bytes())])
    )
    return initramfs


@contextlib.contextmanager
def _taps(prefix: str, subnet: int) -> Iterator[list[_Net]]:
    nets = []
    with contextlib.ExitStack() as stack:
        for index, vhost in enumerate((True, False)):
            net = _Net(
                tap=f"{prefix}{index}",
                host=f"10.99.{subnet}.{4 * index + 1}",
                guest=f"10.99.{subnet}.{4 * index + 2}",
                mac=f"52:54:00:00:{subnet:02x}:{index:02x}",
                vhost=vhost,
            )
            ip = partial(subprocess.run, check=True)
            ip(["ip", "tuntap", "add", "dev", net.tap, "mode", "tap", "vnet_hdr"])
            stack.callback(ip, ["ip", "link", "delete", net.tap])
            ip(["ip", "addr", "add", f"{net.host}/30", "dev", net.tap])
            ip(["ip", "link", "set", net.tap, "up"])
            nets.append(net)
        yield nets


@contextlib.contextmanager
def _serving(address: str) -> Iterator[None]:
    command = [str(load_program()), "serve", address]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"serving\n":
            raise RuntimeError(f"{command} does not serve")
        yield


def _disk(directory: Path, name: str) -> Path:
    """Write an image in which every block is there."""
    path = directory / f"{name}.img"
    with path.open("wb") as image:
        for _ in range(DISK_SIZE >> 20):
            image.write(bytes(range(256)) * 4096)
        os.fsync(image.fileno())
    return path


def _velum(guest: Guest, initramfs: Path, directory: Path, nets: list[_Net]) -> list[str]:
    command = [
        *(sys.executable, "-m", "vmm_worker", "--name", "bench", "--runtime-dir", str(directory)),
        *("--log-level", "warning", "--memory", f"size={_MEMORY}M", "--cpus", "boot=1"),
        *("--kernel", str(guest.vmlinux), "--initramfs", str(initramfs), "--cmdline", _CMDLINE),
        *("--serial", f"socket={directory}/velum.serial", "--console", "off"),
        # As many as QEMU has: it bounds the size of a request.
        *("--disk", f"path={_disk(directory, 'velum')},direct=on,queue_size=256"),
        *("--vsock", f"cid=3,socket={directory}/vsock"),
    ]
    for net in nets:
        vhost = "on" if net.vhost else "off"
        command += ["--net", f"tap={net.tap},mac={net.mac},vhost={vhost}"]
    return command


def _qemu(guest: Guest, initramfs: Path, directory: Path, nets: list[_Net]) -> list[str]:
    disk = f"id=disk,if=none,file={_disk(directory, 'qemu')},format=raw,cache=none,aio=io_uring"
    command = [
        *("qemu-system-x86_64", "-M", "q35", "-enable-kvm", "-cpu", "host"),
        *("-m", str(_MEMORY), "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-kernel", str(guest.kernel), "-initrd", str(initramfs), "-append", _CMDLINE),
        *("-serial", f"unix:{directory}/qemu.serial,server=on,wait=off"),
        *("-object", "iothread,id=io", "-drive", disk),
        *("-device", "virtio-blk-pci,drive=disk,iothread=io"),
        *("-device", "vhost-vsock-pci,guest-cid=4"),
    ]
    for net in nets:
        vhost = "on" if net.vhost else "off"
        options = f"tap,id={net.tap},ifname={net.tap},script=no,downscript=no,vhost={vhost}"
        command += ["-netdev", options]
        command += ["-device", f"virtio-net-pci,netdev={net.tap},mac={net.mac}"]
    return command


@contextlib.contextmanager
def _peer(name: str, command: list[str], serial: Path, nets: list[_Net]) -> Iterator[Peer]:
    others = _vhost_threads()
    with running(command) as process, Agent.connect(serial, timeout=60) as agent:
        agent.wait()
        yield Peer(name, process, _vhost_threads() - others, agent, nets)
        process.kill()  # this guest ignores a power button


@contextlib.contextmanager
def peers(guest: Guest, directory: Path) -> Iterator[list[Peer]]:
    """Have Velum and QEMU up, in that order."""
    initramfs = _guest_with_load(guest, directory)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_taps("velum", 1))
        theirs = stack.enter_context(_taps("qemu", 2))
        stack.enter_context(_serving(f"tcp:0.0.0.0:{_PORT}"))
        stack.enter_context(_serving(f"unix:{directory}/vsock_{_PORT}"))
        stack.enter_context(_serving(f"vsock:-1:{_PORT}"))
        yield [
            stack.enter_context(_peer(name, command, directory / f"{name}.serial", nets))
            for name, command, nets in (
                ("velum", _velum(guest, initramfs, directory, ours), ours),
                ("qemu", _qemu(guest, initramfs, directory, theirs), theirs),
            )
        ]
