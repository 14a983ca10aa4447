# SPDX-License-Identifier: Apache-2.0
"""The payload's files: what is refused, how it is told, and that nothing stays open."""

import os
from pathlib import Path

import pytest

from ipc_protocol.config import PayloadConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from tests.unit.vmm_worker.machine.kernels import MIB, bzimage, pvh_kernel
from vmm_worker.machine.image import Protocol
from vmm_worker.machine.payload import Payload

RAM = 512 * MIB


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    return str(path)


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refuse(config, ram=RAM):
    before = descriptors()
    with pytest.raises(VmFailure) as caught:
        Payload.open(config, ram)
    assert descriptors() == before
    error = caught.value.error
    assert len(error.fields) == 1
    return error.code, error.fields[0].pointer, error.message


def test_files_are_open_as_long_as_the_payload(kernel, tmp_path):
    (tmp_path / "initramfs").write_bytes(b"x" * 5000)
    config = PayloadConfig(
        kernel=kernel, initramfs=str(tmp_path / "initramfs"), cmdline="console=ttyS0 ü"
    )
    before = descriptors()
    with Payload.open(config, RAM) as payload:
        assert descriptors() == before + 2
        assert payload.kernel.protocol is Protocol.LINUX64
        assert payload.initramfs == (RAM - 8192, 5000)
        assert payload.cmdline == "console=ttyS0 ü".encode()
    assert descriptors() == before


def test_elf_without_more(tmp_path):
    (tmp_path / "elf").write_bytes(pvh_kernel())
    with Payload.open(PayloadConfig(kernel=str(tmp_path / "elf")), 2 * MIB) as payload:
        assert payload.kernel.protocol is Protocol.PVH
        assert payload.initramfs is None
        assert payload.cmdline == b""


def test_empty_initramfs_is_none(kernel, tmp_path):
    path = tmp_path / "initramfs"
    path.touch()
    with Payload.open(PayloadConfig(kernel=kernel, initramfs=str(path)), RAM) as payload:
        assert payload.initramfs is None


def test_no_kernel():
    assert refuse(PayloadConfig())[:2] == (ErrorCode.INVALID_CONFIG, "/payload/kernel")


@pytest.mark.parametrize("field", ["kernel", "initramfs"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("loop", "symbolic links"),
        ("nul\0name", "null"),
    ],
)
def test_files_that_are_none(kernel, tmp_path, field, name, reason):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    path = f"{tmp_path}/{name}"
    files = {"kernel": kernel} | {field: path}
    code, pointer, message = refuse(PayloadConfig(**files))
    assert code == ErrorCode.FILE_UNAVAILABLE
    assert pointer == f"/payload/{field}"
    assert path.replace("\0", r"\x00") in message
    assert reason in message


def test_file_that_is_no_kernel(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a kernel")
    code, pointer, message = refuse(PayloadConfig(kernel=str(path)))
    assert (code, pointer) == (ErrorCode.INVALID_KERNEL, "/payload/kernel")
    assert str(path) in message
    assert "neither a bzImage nor an ELF image" in message


def test_kernel_larger_than_memory(kernel):
    code, _, message = refuse(PayloadConfig(kernel=kernel), 32 * MIB)
    assert code == ErrorCode.INVALID_KERNEL
    assert "ends at 0x2000000" in message


def test_initramfs_larger_than_memory(kernel, tmp_path):
    path = tmp_path / "initramfs"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    code, pointer, message = refuse(PayloadConfig(kernel=kernel, initramfs=str(path)))
    assert (code, pointer) == (ErrorCode.INITRAMFS_TOO_LARGE, "/payload/initramfs")
    assert "1099511627776 bytes" in message


def test_command_line_has_the_kernels_limit(kernel):
    with Payload.open(PayloadConfig(kernel=kernel, cmdline="x" * 2047), RAM) as payload:
        assert len(payload.cmdline) == 2047
    code, pointer, message = refuse(PayloadConfig(kernel=kernel, cmdline="ü" * 1024))
    assert (code, pointer) == (ErrorCode.CMDLINE_TOO_LONG, "/payload/cmdline")
    assert "2048 bytes, and the kernel takes at most 2047" in message
