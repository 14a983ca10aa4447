# SPDX-License-Identifier: Apache-2.0
"""What a Linux guest entrusts to a disk: files that survive, and space that comes back."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_vm import AgentVm, busybox
from tests.support.processes import eventually, start_worker

pytestmark = [pytest.mark.linux, pytest.mark.timeout(600)]

MIB = 1 << 20
SIZE = 128 * MIB
FILLED = 32
"""MiB in the file that is deleted again."""
RECORDS = 12
"""To be acknowledged before the worker is killed."""

# Unflushed data all the time, and beside it small files that are flushed, each reported.
WRITER = (
    "mount /dev/vda /mnt; (while :; do dd if=/dev/urandom of=/mnt/load bs=64k count=64; done) & "
    "n=0; while :; do n=$((n + 1)); "
    "echo record $n | dd of=/mnt/$n conv=fsync; echo durable $n >/dev/ttyS0; done"
)


@pytest.fixture
def image() -> Iterator[Path]:
    """Return an image with an empty ext4, on a file system that makes holes."""
    with tempfile.TemporaryDirectory(prefix="velum-disk-", dir="/var/tmp") as directory:
        image = Path(directory) / "disk.img"
        with image.open("wb") as file:
            file.truncate(SIZE)
        run("mke2fs", "-q", "-t", "ext4", str(image))
        yield image


def run(*command: str) -> str:
    """Return the output of a command that succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def used(image: Path) -> int:
    """Return the MiB that a file takes on its disk."""
    return image.stat().st_blocks * 512 // MIB


@pytest.mark.parametrize("uring", [True, False], ids=["io_uring", "threads"])
def test_discard_gives_space_back(tmp_path: Path, image: Path, uring: bool) -> None:
    """What the guest deletes and trims is a hole in the image."""
    disk = {"path": str(image), "disable_io_uring": not uring}
    with (
        start_worker(tmp_path) as worker,
        AgentVm(worker.call, tmp_path, busybox(), disks=[disk]) as vm,
    ):
        before = used(image)
        vm.boot()
        fill = f"dd if=/dev/urandom of=/mnt/file bs=1M count={FILLED}"
        vm.agent.check(f"mount /dev/vda /mnt && {fill} && sync", timeout=120.0)
        assert used(image) >= before + FILLED
        vm.agent.check("rm /mnt/file && sync && fstrim /mnt", timeout=120.0)
        eventually(lambda: used(image) <= before + FILLED // 4, "the space")
        vm.agent.check("umount /mnt")
    run("e2fsck", "-fn", str(image))


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_flushed_data_survives_a_killed_worker(tmp_path: Path, image: Path, direct: bool) -> None:
    """Only what was not flushed is lost, and the file system is what its journal says."""
    with start_worker(tmp_path) as worker:
        disk = {"path": str(image), "direct": direct}
        vm = AgentVm(worker.call, tmp_path, busybox(), disks=[disk])
        vm.boot()
        vm.agent.start(WRITER)
        vm.agent.console.expect(f"durable {RECORDS}".encode(), timeout=120.0)
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


def test_read_only_disk(tmp_path: Path, image: Path) -> None:
    """It can be read, and the guest knows that it cannot be written."""
    disk = {"path": str(image), "readonly": True, "serial": "velum-1"}
    content = image.read_bytes()
    with (
        start_worker(tmp_path) as worker,
        AgentVm(worker.call, tmp_path, busybox(), disks=[disk]) as vm,
    ):
        vm.boot()
        assert vm.agent.check("cat /sys/block/vda/ro /sys/block/vda/serial").split() == [
            "1",
            "velum-1",
        ]
        vm.agent.check("mount -o ro /dev/vda /mnt && ls -d /mnt/lost+found")
        assert vm.agent.run("dd if=/dev/zero of=/dev/vda bs=4k count=1").returncode != 0
    assert image.read_bytes() == content
