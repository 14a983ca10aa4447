# SPDX-License-Identifier: Apache-2.0
"""What a Linux guest entrusts to a disk: files that survive, and space that comes back."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import Agent
from tests.support.agent_vm import AgentVm, busybox
from tests.support.processes import eventually, start_worker

pytestmark = [pytest.mark.linux, pytest.mark.timeout(1500)]

MIB = 1 << 20
SIZE = 128 * MIB
FILLED = 24
"""MiB in the file that is deleted again."""
RECORDS = 12
"""To be acknowledged before the worker is killed."""

# Unflushed data all the time, and beside it small files that are flushed, each reported.
WRITER = (
    "mount /dev/vda /mnt; (while :; do dd if=/dev/urandom of=/mnt/load bs=64k count=64; done) & "
    "n=0; while :; do n=$((n + 1)); "
    "echo record $n | dd of=/mnt/$n conv=fsync; echo durable $n >/dev/ttyS0; done"
)


def run(*command: str) -> str:
    """Return the output of a command that succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def used(image: Path) -> int:
    """Return the MiB that a file takes on its disk."""
    return image.stat().st_blocks * 512 // MIB


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Return a directory of a file system that makes holes and has O_DIRECT."""
    with tempfile.TemporaryDirectory(prefix="velum-disk-", dir="/var/tmp") as directory:
        yield Path(directory)


def formatted(image: Path) -> Path:
    """Return an image, made anew, with an empty ext4."""
    with image.open("wb") as file:
        file.truncate(SIZE)
    run("mke2fs", "-q", "-t", "ext4", str(image))
    return image


@pytest.fixture(scope="module")
def agent(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Return a guest with three disks, vda to vdc."""
    disks = [
        {"path": str(formatted(directory / "uring"))},
        {"path": str(formatted(directory / "threads")), "disable_io_uring": True},
        {"path": str(formatted(directory / "fixed")), "readonly": True, "serial": "velum-1"},
    ]
    sockets = tmp_path_factory.mktemp("disks")
    with (
        start_worker(sockets) as worker,
        AgentVm(worker.call, sockets, busybox(), disks=disks) as vm,
    ):
        vm.boot()
        yield vm.agent


@pytest.mark.parametrize(("device", "name"), [("vda", "uring"), ("vdb", "threads")])
def test_discard_gives_space_back(agent: Agent, directory: Path, device: str, name: str) -> None:
    """What the guest deletes and trims is a hole in the image."""
    image = directory / name
    before = used(image)
    fill = f"dd if=/dev/urandom of=/mnt/file bs=1M count={FILLED}"
    agent.check(f"mount /dev/{device} /mnt && {fill} && sync", timeout=300.0)
    assert used(image) >= before + FILLED
    agent.check("rm /mnt/file && sync && fstrim /mnt && umount /mnt", timeout=300.0)
    eventually(lambda: used(image) <= before + FILLED // 4, "the space")
    run("e2fsck", "-fn", str(image))


def test_read_only_disk(agent: Agent, directory: Path) -> None:
    """It can be read, and the guest knows that it cannot be written."""
    content = (directory / "fixed").read_bytes()
    assert agent.check("cat /sys/block/vdc/ro /sys/block/vdc/serial").split() == ["1", "velum-1"]
    agent.check("mount -o ro /dev/vdc /mnt && ls -d /mnt/lost+found && umount /mnt")
    assert agent.run("dd if=/dev/zero of=/dev/vdc bs=4k count=1").returncode != 0
    assert (directory / "fixed").read_bytes() == content


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_flushed_data_survives_a_killed_worker(
    tmp_path: Path, directory: Path, direct: bool
) -> None:
    """Only what was not flushed is lost, and the file system is what its journal says."""
    image = formatted(directory / "killed")
    with start_worker(tmp_path) as worker:
        disk = {"path": str(image), "direct": direct}
        vm = AgentVm(worker.call, tmp_path, busybox(), disks=[disk])
        vm.boot()
        vm.agent.start(WRITER)
        vm.agent.console.expect(f"durable {RECORDS}".encode(), timeout=300.0)
        worker.stop(signal.SIGKILL)
        while vm.agent.console.read(1.0):
            pass
        reported = vm.agent.console.output.count(b"durable ")
        vm.agent.console.close()
    replay = ("e2fsck", "-y", "-E", "journal_only", str(image))
    assert subprocess.run(replay, capture_output=True, check=False).returncode in {0, 1}
    run("e2fsck", "-fn", str(image))
    for number in range(1, reported + 1):
        # What was only begun to be reported was durable as well.
        content = run("debugfs", "-R", f"cat /{number}", str(image))
        assert content == f"record {number}\n", number
