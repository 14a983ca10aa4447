# SPDX-License-Identifier: Apache-2.0
"""Takes the ELF kernel out of a bzImage.

Entered by its PVH note, the ELF file skips the decompressor, which is the
slowest part of a boot on an emulated processor.
"""

import bz2
import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable

__all__ = ["BadKernelError", "release", "vmlinux"]

# Offsets of the setup header: Documentation/arch/x86/boot.rst.
SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
KERNEL_VERSION = 0x20E
PAYLOAD = 0x248
SECTOR = 512


class BadKernelError(Exception):
    """The file is no bzImage, or its payload cannot be unpacked."""


def filtered(*command: str) -> Callable[[bytes], bytes]:
    """Return a decompressor that is a program."""

    def decompress(payload: bytes) -> bytes:
        # The build appends the unpacked size, which these programs take for garbage.
        done = subprocess.run(command, input=payload[:-4], stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise BadKernelError(f"{command[0]} could not unpack the kernel")
        return done.stdout

    return decompress


DECOMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda payload: zlib.decompressobj(31).decompress(payload),
    b"BZh": lambda payload: bz2.BZ2Decompressor().decompress(payload),
    b"\xfd7zXZ\0": lambda payload: lzma.LZMADecompressor().decompress(payload),
    b"\x02!L\x18": filtered("lz4", "-dc"),
    b"\x28\xb5\x2f\xfd": filtered("zstd", "-dcq"),
}


def release(image: bytes) -> str:
    """Return the kernel's release, which `uname -r` prints."""
    (offset,) = struct.unpack_from("<H", image, KERNEL_VERSION)
    text, _, _ = image[SECTOR + offset :].partition(b"\0")
    return text.decode().split()[0]


def vmlinux(image: bytes) -> bytes:
    """Return the ELF file that a bzImage carries compressed."""
    if len(image) < PAYLOAD + 8 or image[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS":
        raise BadKernelError("not a bzImage")
    protected_mode = ((image[SETUP_SECTS] or 4) + 1) * SECTOR
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = protected_mode + offset
    payload = image[start : start + length]
    for magic, decompress in DECOMPRESSORS.items():
        if payload.startswith(magic):
            elf = decompress(payload)
            break
    else:
        raise BadKernelError(f"unknown compression, magic {payload[:6].hex()}")
    if not elf.startswith(b"\x7fELF"):
        raise BadKernelError("the payload is no ELF file")
    return elf
