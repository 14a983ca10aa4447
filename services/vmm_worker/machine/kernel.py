# SPDX-License-Identifier: Apache-2.0
"""From a file to a kernel that can be loaded, whatever its format."""

from __future__ import annotations

from vmm_worker.machine.bzimage import HEADER_SIZE, is_bzimage, parse_bzimage
from vmm_worker.machine.elf import is_elf, parse_elf
from vmm_worker.machine.image import ImageError, KernelImage, Reader

__all__ = ["parse_kernel"]

# What people pass by mistake, by its first bytes.
OTHER_FORMATS = (
    (b"\x1f\x8b", "a gzip file; decompress it first"),
    (b"\xfd7zXZ", "an xz file; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; decompress it first"),
    (b"\x02\x21\x4c\x18", "an LZ4 file; decompress it first"),
    (b"070701", "a cpio archive, such as an initramfs"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"!<arch>", "an archive, such as a Debian package"),
    (b"#!", "a script"),
    (b"MZ", "a DOS, Windows or EFI program without a Linux setup header"),
)


def parse_kernel(read: Reader, file_size: int, ram_end: int) -> KernelImage:
    """Recognize the format of a kernel and plan its loading.

    Args:
        read: Reads from the file.
        file_size: Its size.
        ram_end: The end of the RAM below 4 GiB.

    Raises:
        ImageError: If it is no kernel, or one that this machine cannot boot.
    """
    head = read(0, HEADER_SIZE)
    if is_elf(head):
        return parse_elf(read, file_size, ram_end)
    if is_bzimage(head):
        return parse_bzimage(read, file_size, ram_end)
    for magic, what in OTHER_FORMATS:
        if head.startswith(magic):
            raise ImageError(f"it is {what}")
    what = "empty" if file_size == 0 else "neither a bzImage nor an ELF image with a PVH note"
    raise ImageError(f"it is {what}")
