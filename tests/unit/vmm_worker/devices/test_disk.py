# SPDX-License-Identifier: Apache-2.0
"""What can be a disk, who may have it, and what is said when it cannot."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import kvm_shim
from ipc_protocol.config_devices import (
    DiskConfig,
    LockGranularity,
    RateLimiterConfig,
    RateLimitGroupConfig,
    TokenBucket,
)
from ipc_protocol.errors import ErrorCode, VmFailure
from kvm_shim.virtio.block import BlockConfig, BlockEngine
from kvm_shim.virtio.limiter import Bucket
from kvm_shim.virtio.place import Place
from vmm_worker.devices import disk as module
from vmm_worker.devices.disk import Disk

SIZE = 1 << 20
LIMITS = RateLimiterConfig(
    bandwidth=TokenBucket(size=1 << 20, refill_time=100, one_time_burst=5),
    ops=TokenBucket(size=10, refill_time=20),
)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    before = {fd.name for fd in Path("/proc/self/fd").iterdir()}
    yield
    assert {fd.name for fd in Path("/proc/self/fd").iterdir()} <= before


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    return path


def open_disk(path: Path | str, **config: Any) -> Disk:
    return Disk("_disk0", DiskConfig(path=str(path), **config), pointer="/disks/0")


def failure(path: Path | str, **config: Any) -> VmFailure:
    with pytest.raises(VmFailure) as caught:
        open_disk(path, **config).close()
    error = caught.value.error
    assert error.code is ErrorCode.FILE_UNAVAILABLE
    assert [each.pointer for each in error.fields] == ["/disks/0/path"]
    assert str(path).replace("\0", r"\x00") in error.message
    return caught.value


def attached(disk: Disk) -> BlockConfig:
    """Return what the C core is asked for, and close the disk."""
    with mock.patch.object(module, "create_block") as create:
        disk.attach(mock.Mock(spec=kvm_shim.Vm), mock.Mock(spec=Place))
    disk.close()
    disk.close()
    config = create.call_args.args[2]
    assert isinstance(config, BlockConfig)
    return config


def test_an_image(image: Path) -> None:
    disk = open_disk(image)
    config = attached(disk)
    status = image.stat()
    assert config._replace(fd=0) == BlockConfig(
        fd=0, serial=f"{status.st_dev}{status.st_rdev}{status.st_ino}".encode()[:20]
    )


def test_what_is_configured_is_passed_on(image: Path) -> None:
    disk = open_disk(
        image,
        readonly=True,
        num_queues=2,
        queue_size=64,
        serial="a serial number",
        sparse=False,
        disable_io_uring=True,
    )
    assert attached(disk)._replace(fd=0) == BlockConfig(
        fd=0,
        readonly=True,
        sparse=False,
        engine=BlockEngine.THREADS,
        num_queues=2,
        queue_size=64,
        serial=b"a serial number",
    )


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_how_it_is_opened(image: Path, readonly: bool, direct: bool) -> None:
    disk = open_disk(image, readonly=readonly, direct=direct)
    with mock.patch.object(module, "create_block") as create:
        disk.attach(mock.Mock(spec=kvm_shim.Vm), mock.Mock(spec=Place))
    fd = create.call_args.args[2].fd
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    assert flags & os.O_ACCMODE == (os.O_RDONLY if readonly else os.O_RDWR)
    assert bool(flags & os.O_DIRECT) == direct
    assert not flags & os.O_NONBLOCK
    assert not os.get_inheritable(fd)
    disk.close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "No such file"),
        ("", "Is a directory"),
        ("/dev/null", "neither a regular file nor a block device"),
        ("empty", "it is empty"),
        ("a\0b", "null byte"),
        ("pipe", "neither"),
    ],
)
def test_what_cannot_be_a_disk(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    assert reason in failure(f"{tmp_path}/{path}" if path[:1] != "/" else path).error.message


def test_a_directory_is_none_either(tmp_path: Path) -> None:
    assert "neither" in failure(tmp_path, readonly=True).error.message


def test_the_way_out_is_named(image: Path) -> None:
    with mock.patch.object(os, "open", side_effect=PermissionError(13, "Permission denied")):
        assert "needs readonly" in failure(image).error.message
        assert f"user {os.geteuid()}" in failure(image).error.message
        assert "readonly" not in failure(image, readonly=True).error.message
    with mock.patch.object(os, "open", side_effect=OSError(22, "Invalid argument")):
        assert "turn direct off" in failure(image, direct=True).error.message
        assert "direct" not in failure(image).error.message


@pytest.mark.parametrize("first", list(LockGranularity))
@pytest.mark.parametrize("second", list(LockGranularity))
def test_one_writer_or_many_readers(
    image: Path, first: LockGranularity, second: LockGranularity
) -> None:
    writer = open_disk(image, lock_granularity=first)
    assert "uses it" in failure(image, lock_granularity=second).error.message
    assert "writes to it" in failure(image, lock_granularity=second, readonly=True).error.message
    writer.close()
    readers = [open_disk(image, lock_granularity=each, readonly=True) for each in (first, second)]
    assert "locked" in failure(image, lock_granularity=second).error.message
    for reader in readers:
        reader.close()
    open_disk(image, lock_granularity=second).close()


def test_other_processes_are_kept_out(image: Path) -> None:
    disk = open_disk(image)
    attempt = (
        "import fcntl, os, struct; fd = os.open(os.sys.argv[1], os.O_RDWR);"
        "fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 100, 1, 0))"
    )
    command = [sys.executable, "-c", f"import sys; {attempt}", str(image)]
    assert b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr
    disk.close()
    subprocess.run(command, check=True)


def test_a_lock_that_the_file_system_does_not_know(image: Path) -> None:
    with mock.patch.object(module, "lock_file", side_effect=OSError(37, "No locks available")):
        assert "cannot be locked: No locks available" in failure(image).error.message


def test_a_group_has_one_limiter_for_each_machine(tmp_path: Path) -> None:
    groups = [RateLimitGroupConfig(id="slow", rate_limiter_config=LIMITS)]
    disks: list[Disk] = []
    for name, config in [
        ("a", {"rate_limit_group": "slow"}),
        ("b", {}),
        ("c", {"rate_limit_group": "slow"}),
        ("d", {"rate_limiter_config": LIMITS}),
    ]:
        path = tmp_path / name
        path.write_bytes(bytes(SIZE))
        wanted = DiskConfig(path=str(path), **config)  # type: ignore[arg-type]
        disks.append(Disk(name, wanted, pointer="/disks/0", groups=groups, others=disks))

    with (
        mock.patch.object(module, "create_block") as create,
        mock.patch(
            "kvm_shim.virtio.limiter.create_limiter", side_effect=lambda *_, **__: mock.Mock()
        ) as limiter,
    ):
        for vm in (mock.Mock(spec=kvm_shim.Vm), mock.Mock(spec=kvm_shim.Vm)):
            for disk in disks:
                disk.attach(vm, mock.Mock(spec=Place))
    limiters = [call.args[2].limiter for call in create.call_args_list]
    assert limiters[1] is limiters[5] is None
    assert limiters[0] is limiters[2]
    assert limiters[4] is limiters[6]
    assert len({id(each) for each in limiters}) == 5
    assert limiter.call_args.kwargs == {
        "bandwidth": Bucket(1 << 20, 100, 5),
        "operations": Bucket(10, 20),
    }
    for disk in disks:
        disk.close()
