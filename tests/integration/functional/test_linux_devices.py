# SPDX-License-Identifier: Apache-2.0
"""A Linux guest finds its smaller devices, and they do what they are for.

One boot serves all tests, the last of which has the guest panic. The environment's
VELUM_VSOCK_MIB is how much is echoed over vsock; where the processor is emulated, the default
is a part of what it is elsewhere.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.agent import Agent
from tests.support.agent_vm import AgentVm, busybox
from tests.support.processes import Worker, eventually, start_worker
from tests.support.streams import SILENCE, Stream, exchange
from tests.testbed.host import inside_testbed

pytestmark = [pytest.mark.linux, pytest.mark.timeout(1500)]

MIB = 1 << 20
MEMORY = 320
FILLED = 144
BALLOON = 96
PMEM = 8
PORT = 5000
CONNECTIONS = 200
ECHOED = int(os.environ.get("VELUM_VSOCK_MIB") or (32 if inside_testbed() else 1024)) * MIB


class Guest(NamedTuple):
    """A guest with one of each."""

    worker: Worker
    agent: Agent
    directory: Path

    @property
    def vsock(self) -> Path:
        """The host's end of the guest's sockets."""
        return self.directory / "vsock"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Return a guest that has booted."""
    directory = tmp_path_factory.mktemp("devices")
    with (
        tempfile.TemporaryDirectory(prefix="velum-devices-", dir="/var/tmp") as files,
        start_worker(directory) as worker,
    ):
        for name in ("kept", "forgotten"):
            (Path(files) / name).write_bytes(bytes(PMEM * MIB))
            (directory / name).symlink_to(Path(files) / name)
        with AgentVm(
            worker.call,
            directory,
            busybox("panic=0"),
            memory=MEMORY,
            balloon={"size": 0, "statistics": True},
            console={"mode": "File", "file": str(directory / "console")},
            pmem=[
                {"file": str(directory / "kept")},
                {"file": str(directory / "forgotten"), "discard_writes": True},
            ],
            pvpanic=True,
            vsock={"cid": 3, "socket": str(directory / "vsock")},
        ) as vm:
            vm.boot()
            vm.agent.check(f"/vsock_echo listen {PORT} &")
            yield Guest(worker, vm.agent, directory)


def test_console(guest: Guest) -> None:
    """The virtio one, beside the serial port."""
    guest.agent.check("echo from the guest >/dev/hvc0")
    console = guest.directory / "console"
    eventually(lambda: "from the guest" in console.read_text(), "the line")


def test_random_numbers(guest: Guest) -> None:
    """The device is there without being asked for."""
    assert "virtio_rng" in guest.agent.check("cat /sys/class/misc/hw_random/rng_current")
    assert guest.agent.check("head -c 64 /dev/hwrng | wc -c") == "64"


@pytest.mark.parametrize(("device", "name"), [("pmem0", "kept"), ("pmem1", "forgotten")])
def test_persistent_memory(guest: Guest, device: str, name: str) -> None:
    """What the guest writes and flushes is in the file, unless it is to be forgotten."""
    assert guest.agent.check(f"cat /sys/block/{device}/size") == str(PMEM * MIB // 512)
    guest.agent.check(f"echo persistent | dd of=/dev/{device} bs=4k conv=fsync")
    assert guest.agent.check(f"head -c 10 /dev/{device}") == "persistent"
    written = (guest.directory / name).read_bytes()[:10] == b"persistent"
    assert written is (name == "kept")


def connected(path: Path) -> socket.socket:
    """Return a connection to the guest's echo, asked for as the protocol has it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SILENCE)
    try:
        connection.connect(str(path))
        connection.sendall(b"CONNECT %d\n" % PORT)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += connection.recv(1)
        assert answer.startswith(b"OK "), answer
    except BaseException:
        connection.close()
        raise
    return connection


def test_echo_over_many_vsock_connections(guest: Guest) -> None:
    """All of them open at the same time, and each gets back all of its own."""
    streams: list[Stream] = []
    try:
        for number in range(CONNECTIONS):
            connection = connected(guest.vsock)
            streams.append(Stream(connection, ECHOED // CONNECTIONS, number))
        exchange(streams)
    finally:
        for stream in streams:
            stream.connection.close()


def test_guest_connects_to_the_host(guest: Guest) -> None:
    """A port of the host's is the socket with its number; one without a socket refuses."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(SILENCE)
        listener.bind(f"{guest.vsock}_{PORT}")
        listener.listen()
        echo = guest.agent.start(f"/vsock_echo connect {PORT}")
        connection, _ = listener.accept()
        with connection:
            exchange([Stream(connection, MIB)])
        assert guest.agent.finish(echo).returncode == 0
    assert guest.agent.run(f"/vsock_echo connect {PORT + 1}").returncode == 1


def resident(worker: Worker) -> int:
    """Return the MiB of a worker that are in memory."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024


def resize(worker: Worker, size: int) -> None:
    """Ask for a balloon of so many MiB, and wait for it."""
    worker.call("vm.resize", {"desired_balloon": size * MIB})
    left = (MEMORY - size) * MIB
    worker_has = f"a balloon of {size} MiB"
    eventually(lambda: worker.info().memory_actual_size == left, worker_has, timeout=300.0)


def test_balloon_while_memory_is_in_use(guest: Guest) -> None:
    """What the guest gives up leaves the worker's memory, and comes back with use."""
    worker, agent, _ = guest
    fill = f"dd if=/dev/zero of=/mnt/file bs=1M count={FILLED}"
    agent.check("mount -t tmpfs -o size=90% tmpfs /mnt")
    agent.check("dd if=/dev/urandom of=/mnt/kept bs=1M count=8")
    digest = agent.check("md5sum /mnt/kept", timeout=300.0)
    agent.check(f"{fill} && rm /mnt/file", timeout=300.0)
    full = resident(worker)
    assert full > FILLED
    busy = agent.start("for i in 1 2 3 4; do md5sum /mnt/kept; done")
    resize(worker, BALLOON)
    assert resident(worker) < full - 0.9 * BALLOON
    assert set(agent.finish(busy, timeout=300.0).stdout.splitlines()) == {digest}
    resize(worker, 0)
    agent.check(fill, timeout=300.0)
    assert resident(worker) > full - 0.1 * BALLOON
    assert agent.check("md5sum /mnt/kept", timeout=300.0) == digest


def test_panic_is_noted(guest: Guest) -> None:
    """The kernel's own words are on the console; that it panicked is in vm.info."""
    assert guest.worker.info().last_panic is None
    guest.agent.start("echo c >/proc/sysrq-trigger")
    guest.worker.wait_until(lambda info: info.last_panic is not None, "the panic is noted")
