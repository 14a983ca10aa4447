# SPDX-License-Identifier: Apache-2.0
"""A whole Debian on a disk: it boots, is reached, works and powers off, here as in QEMU.

Two boots serve all tests: one in a worker, one in QEMU of the same files. Their order is that
of a machine's life, and the last test ends it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guests.debian import debian as debian_guest
from tests.support.agent import Agent
from tests.support.agent_vm import AgentVm, debian
from tests.support.processes import eventually, start_worker
from tests.support.qemu import qemu_command

pytestmark = [
    pytest.mark.linux,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who makes tap interfaces"),
]

HOST, GUEST = "192.168.200.1", "192.168.200.2"
LEASES = "192.168.201.1", "192.168.201.100"
MEMORY = 512
SCRATCH = 64 << 20
OFF_TIMEOUT = 300.0
FIO = (
    "fio --name=mixed --filename=/dev/vdb --ioengine=libaio --direct=1 --iodepth=8 --rw=randrw "
    "--bsrange=4k-64k --size=16M --verify=crc32c --verify_fatal=1 --group_reporting"
)


@dataclass
class Guest:
    """A Debian that has booted."""

    agent: Agent
    console: Path
    disk: Path
    wait_for_end: Callable[[], object]


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """Return a root disk, with a scratch disk beside it, on a file system that has O_DIRECT."""
    with tempfile.TemporaryDirectory(prefix="velum-debian-", dir="/var/tmp") as directory:
        disk = Path(directory) / "root.img"
        debian_guest().copy_disk(disk)
        with (disk.parent / "scratch.img").open("wb") as scratch:
            scratch.truncate(SCRATCH)
        yield disk


@contextmanager
def in_velum(directory: Path, disk: Path) -> Iterator[Guest]:
    """Boot in a worker, with a network of the kernel's and one of the worker's own."""
    network = {"mask": "255.255.255.0", "num_queues": 4}
    with (
        start_worker(directory) as worker,
        AgentVm(
            worker.call,
            directory,
            debian(f"{GUEST}/24"),
            vcpus=2,
            memory=MEMORY,
            disks=[
                {"path": str(disk)},
                {"path": str(disk.parent / "scratch.img"), "direct": True, "num_queues": 2},
            ],
            net=[
                {"tap": "velum0", "ip": HOST, **network},
                {"tap": "velum1", "ip": LEASES[0], "vhost": False, **network},
            ],
            console={"mode": "File", "file": str(directory / "console")},
        ) as vm,
        leases(directory, vm),
    ):
        yield Guest(
            vm.agent,
            directory / "console",
            disk,
            lambda: eventually(
                lambda: worker.info().state == "Shutdown", "the end", timeout=OFF_TIMEOUT
            ),
        )


@contextmanager
def leases(directory: Path, vm: AgentVm) -> Iterator[None]:
    """Boot with somebody who gives out addresses on the second network."""
    vm.start()
    configuration = directory / "udhcpd.conf"
    configuration.write_text(
        f"start {LEASES[1]}\nend {LEASES[1]}\ninterface velum1\noption subnet 255.255.255.0\n"
        f"lease_file {directory}/leases\npidfile {directory}/udhcpd.pid\n"
    )
    with daemon("busybox", "udhcpd", "-f", str(configuration)):
        vm.agent.wait()
        yield


@contextmanager
def in_qemu(directory: Path, disk: Path) -> Iterator[Guest]:
    """Boot in QEMU, with the kernel's network."""
    host("ip", "tuntap", "add", "velum0", "mode", "tap")
    host("ip", "address", "add", f"{HOST}/24", "dev", "velum0")
    host("ip", "link", "set", "velum0", "up")
    scratch = f"id=scratch,file={disk.parent / 'scratch.img'},format=raw,if=none,cache=none"
    network = "tap,id=net,ifname=velum0,script=no,downscript=no,vhost=on"
    devices = ("-drive", scratch, "-device", "virtio-blk-pci,drive=scratch")
    devices += ("-netdev", network, "-device", "virtio-net-pci,netdev=net")
    command = qemu_command(
        directory, disk, address=f"{GUEST}/24", vcpus=2, memory=MEMORY, devices=devices
    )
    try:
        with daemon(*command) as process, Agent.connect(directory / "agent.sock") as agent:
            agent.wait()
            yield Guest(agent, directory / "console", disk, lambda: process.wait(OFF_TIMEOUT))
    finally:
        host("ip", "link", "delete", "velum0")


@pytest.fixture(scope="module", params=["velum", "qemu"])
def guest(
    request: pytest.FixtureRequest, disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """Return the guest in one of the two monitors."""
    boot = {"velum": in_velum, "qemu": in_qemu}[request.param]
    with boot(tmp_path_factory.mktemp(request.param), disk) as guest:
        yield guest


here = pytest.mark.parametrize("guest", ["velum"], indirect=True)
"""For what is not QEMU's business."""


@contextmanager
def daemon(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program as long as the context lasts."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def host(*command: str, timeout: float = 120.0) -> str:
    """Return the output of a command on this side that is to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.strip()


def test_login_prompt_on_the_console(guest: Guest) -> None:
    """The virtio console's, with the serial port in other hands."""
    eventually(lambda: "velum login:" in guest.console.read_text(), "a login prompt")


def test_everything_started(guest: Guest) -> None:
    state = guest.agent.run("systemctl is-system-running --wait", timeout=300.0)
    assert state.stdout == "running", guest.agent.run("systemctl --failed; dmesg | tail").stdout


def test_ping_both_ways(guest: Guest) -> None:
    host("ping", "-c", "3", "-W", "10", GUEST)
    guest.agent.check(f"ping -c 3 -W 10 {HOST}")


def test_ssh(guest: Guest) -> None:
    """By the key that was made with the image."""
    del guest
    assert host(*debian_guest().ssh(GUEST, "id -un; hostname")).split() == ["root", "velum"]


@here
def test_dhcp(guest: Guest) -> None:
    """The second network has an address that was asked for."""
    shown = "ip -4 -brief address show dev eth1"
    eventually(lambda: LEASES[1] in guest.agent.check(shown), "a lease", timeout=240.0)
    host("ping", "-c", "1", "-W", "10", LEASES[1])


def test_random_numbers(guest: Guest) -> None:
    assert "virtio_rng" in guest.agent.check("cat /sys/class/misc/hw_random/rng_current")
    assert guest.agent.check("head -c 64 /dev/hwrng | wc -c") == "64"


def test_mixed_load_reads_what_was_written(guest: Guest) -> None:
    """fio compares a checksum in every block."""
    output = guest.agent.check(FIO, timeout=300.0)
    assert re.search(r"err= 0", output), output


@here
@pytest.mark.parametrize("reverse", [False, True], ids=["to-host", "to-guest"])
@pytest.mark.parametrize(("device", "peer"), [("eth0", HOST), ("eth1", LEASES[0])])
def test_streams(guest: Guest, device: str, peer: str, reverse: bool) -> None:
    """Four at once over four queues, with the kernel's vhost and without."""
    queues = guest.agent.check(f"ls /sys/class/net/{device}/queues").split()
    assert queues == ["rx-0", "rx-1", "tx-0", "tx-1"]
    with daemon("iperf3", "--server", "--one-off", "--bind", peer):
        command = f"iperf3 -c {peer} -t 3 -P 4 --json{' -R' if reverse else ''}"
        command += " >/run/iperf; status=$?; grep -A9 sum_received /run/iperf; exit $status"
        output = guest.agent.check(f"sleep 1; {command}", timeout=300.0)
    received = json.loads("{" + re.search(r'"bytes":\s*\d+', output)[0] + "}")["bytes"]
    # How fast is for the benchmarks; one segment at a time is as slow as it gets.
    assert received > 1 << 17, output


def test_power_off_leaves_a_clean_disk(guest: Guest) -> None:
    guest.agent.start("systemctl poweroff")
    guest.wait_for_end()
    host("e2fsck", "-fn", str(guest.disk))
