# SPDX-License-Identifier: Apache-2.0
"""The kernel inside a bzImage, whatever it is compressed with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess

import pytest

from tests.guests.linux.bzimage import BadKernelError, release, vmlinux

ELF = b"\x7fELF" + bytes(range(256)) * 64
SIZE = struct.pack("<I", len(ELF))


def bzimage(payload: bytes) -> bytes:
    """Return a bzImage with one setup sector."""
    image = bytearray(2 * 512)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + bytes(16) + payload + bytes(32)


def program(*command: str) -> bytes:
    return subprocess.run(command, input=ELF, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(lambda: gzip.compress(ELF), id="gzip"),
        pytest.param(lambda: bz2.compress(ELF) + SIZE, id="bzip2"),
        pytest.param(lambda: lzma.compress(ELF) + SIZE, id="xz"),
        pytest.param(lambda: program("lz4", "-lc") + SIZE, id="lz4"),
        pytest.param(lambda: program("zstd", "-qc") + SIZE, id="zstd"),
    ],
)
def test_payload_is_unpacked(payload) -> None:
    assert vmlinux(bzimage(payload())) == ELF


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (b"", "not a bzImage"),
        (ELF, "not a bzImage"),
        (bzimage(b"who knows"), "unknown compression"),
        (bzimage(gzip.compress(b"no ELF")), "no ELF"),
    ],
)
def test_other_files_are_refused(image: bytes, complaint: str) -> None:
    with pytest.raises(BadKernelError, match=complaint):
        vmlinux(image)


def test_release_is_that_of_uname() -> None:
    """It is a part of the banner that the header points to."""
    image = bytearray(bzimage(b""))
    image += bytes(1024)
    struct.pack_into("<H", image, 0x20E, 0x300)
    image[0x500:0x520] = b"6.1.0-1-amd64 (someone@host) #1\0"
    assert release(bytes(image)) == "6.1.0-1-amd64"
