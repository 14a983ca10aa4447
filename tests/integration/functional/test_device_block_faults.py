# SPDX-License-Identifier: Apache-2.0
"""Disks whose host has a fault: the guest and the operator are told, and the VM lives."""

import contextlib
import ctypes
import errno
import os
import resource
import subprocess

import pytest

import kvm_shim
from kvm_shim.virtio.block import BlockConfig, create_block
from kvm_shim.virtio.place import Place
from tests.support.disks import BAR, IMAGE_SIZE, Disk, Outcome, Request, machine, pattern

pytestmark = pytest.mark.kvm

MNT_DETACH = 2


@contextlib.contextmanager
def mounted(path, size):
    """Mount a tmpfs of that size."""
    libc = ctypes.CDLL(None, use_errno=True)
    path.mkdir()
    if libc.mount(b"velum", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"mounting a tmpfs: {os.strerror(ctypes.get_errno())}")
    try:
        yield path
    finally:
        busy = libc.umount2(os.fsencode(path), 0) != 0
        if busy:
            libc.umount2(os.fsencode(path), MNT_DETACH)
    assert not busy, "the file is still in use after the VM's end"


def test_a_full_file_system(engine, tmp_path):
    with mounted(tmp_path / "small", 1 << 20) as small:
        path = small / "disk.raw"
        path.touch()
        os.truncate(path, IMAGE_SIZE)
        with machine() as (vm, bus):
            disk = Disk(vm, bus, path, engine=engine)
            disk.start()
            data = pattern(2 << 20)
            assert disk.request(Request.OUT, 0, data=data) is Outcome.IOERR
            assert "No space left" in disk.logged()
            assert disk.counters()["io_errors"] == 1
            assert disk.range(Request.DISCARD, 0, 4096) is Outcome.OK
            assert disk.request(Request.OUT, 0, data=data[:65536]) is Outcome.OK
            assert disk.read(0, 65536) == data[:65536]


def test_a_file_that_is_cut_short(pc, image, engine):
    disk = Disk(*pc, image, engine=engine)
    disk.start()
    os.truncate(image, IMAGE_SIZE // 2)
    assert disk.request(Request.IN, IMAGE_SIZE // 512 - 8, size=4096) is Outcome.IOERR
    assert "read at byte" in disk.logged()
    # One that begins before the end, and goes on after it.
    assert disk.request(Request.IN, IMAGE_SIZE // 1024 - 4, size=4096) is Outcome.IOERR
    assert disk.read(0, 4096) == pattern(4096)
    assert disk.counters()["io_errors"] == 2


def test_a_limit_on_the_size_of_files(pc, image, engine):
    """RLIMIT_FSIZE would end the process by SIGXFSZ, were it not for the threads' masks."""
    disk = Disk(*pc, image, engine=engine)
    disk.start()
    os.truncate(image, IMAGE_SIZE // 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (IMAGE_SIZE // 2, before[1]))
    try:
        data = pattern(4096)
        outcome = disk.request(Request.OUT, IMAGE_SIZE // 512 - 8, data=data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcome is Outcome.IOERR
    assert disk.request(Request.OUT, IMAGE_SIZE // 512 - 8, data=data) is Outcome.OK


def test_lines_are_rationed(pc, image, engine):
    disk = Disk(*pc, image, engine=engine)
    disk.start()
    os.truncate(image, 0)
    for _ in range(100):
        assert disk.request(Request.IN, 0, size=512) is Outcome.IOERR
    lines = 0
    while (event := disk.vm.next_event()) is not None:
        lines += event.kind is kvm_shim.EventKind.DEVICE_LOG
    assert 1 <= lines <= 3
    assert disk.counters()["io_errors"] == 100


def test_what_is_left_over_is_left_out(pc, tmp_path):
    path = tmp_path / "odd.raw"
    path.write_bytes(pattern(10 * 512 + 100))
    disk = Disk(*pc, path)
    assert "100 bytes" in disk.logged()
    disk.start()
    assert disk.driver.config.read(0, 4) == 10
    assert disk.request(Request.IN, 10, size=512) is Outcome.IOERR


def make(vm, bus, fd, **config):
    return create_block(vm, Place(bus, "_disk0", 3, BAR), BlockConfig(fd=fd, **config))


@pytest.mark.parametrize(
    ("flags", "config", "message"),
    [
        (os.O_RDWR, {"queue_size": 100}, "power of two"),
        (os.O_RDWR, {"queue_size": 2}, "power of two"),
        (os.O_RDWR, {"queue_size": 2048}, "power of two"),
        (os.O_RDWR, {"num_queues": 0}, "0 queues"),
        (os.O_RDONLY, {}, "not open for reading and writing"),
        (os.O_RDWR | os.O_NONBLOCK, {}, "O_NONBLOCK"),
    ],
)
def test_a_configuration_that_makes_no_sense(pc, image, flags, config, message):
    fd = os.open(image, flags)
    try:
        with pytest.raises(kvm_shim.ShimError, match=message) as caught:
            make(*pc, fd, **config)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("path", ["/dev/null", "/", "empty"])
def test_what_cannot_be_a_disk(pc, tmp_path, path):
    (tmp_path / "empty").touch()
    fd = os.open(tmp_path / path, os.O_RDONLY)
    try:
        with pytest.raises(kvm_shim.ShimError, match="disk:"):
            make(*pc, fd, readonly=True)
    finally:
        os.close(fd)


def test_a_closed_file(pc):
    with pytest.raises(kvm_shim.ShimError, match="duplicate") as caught:
        make(*pc, 1 << 20)
    assert caught.value.errno == errno.EBADF


@pytest.fixture
def loop_device(image):
    """A block device on the image; its sectors have 4096 bytes."""
    command = ["losetup", "--find", "--show", "--direct-io=off", "--sector-size", "4096", image]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as ex:
        pytest.skip(f"a loop device is not to be had: {getattr(ex, 'stderr', ex)}")
    device = done.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_a_block_device(loop_device, engine, direct):
    with machine() as (vm, bus):
        disk = Disk(vm, bus, loop_device, engine=engine, direct=direct)
        assert disk.driver.config.read(0, 4) == IMAGE_SIZE // 512
        assert disk.driver.config.read(20, 4) == 4096
        disk.start()
        data = pattern(64 << 10, seed=5)
        assert disk.request(Request.OUT, 16, data=data) is Outcome.OK
        assert disk.request(Request.OUT, 512, data=data, alignment=1) is Outcome.OK
        assert disk.request(Request.FLUSH) is Outcome.OK
        assert disk.read(16, len(data)) == data
        assert disk.range(Request.DISCARD, 16, 64) is Outcome.OK
        assert disk.read(512, len(data)) == data
        assert disk.range(Request.WRITE_ZEROES, 512, 64) is Outcome.OK
        assert disk.read(512, 32 << 10) == bytes(32 << 10)
        assert disk.request(Request.IN, 1, size=512) is (Outcome.IOERR if direct else Outcome.OK)
