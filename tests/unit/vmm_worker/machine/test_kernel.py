# SPDX-License-Identifier: Apache-2.0
"""Which format a file has, and what is said of files that are no kernel."""

import gzip
import lzma

import pytest

from tests.unit.vmm_worker.machine.kernels import MIB, bzimage, pvh_kernel, reader
from vmm_worker.machine.image import ImageError, Protocol
from vmm_worker.machine.kernel import parse_kernel


def parse(data):
    return parse_kernel(reader(data), len(data), 512 * MIB)


def test_formats():
    assert parse(bzimage()).protocol is Protocol.LINUX64
    assert parse(pvh_kernel()).protocol is Protocol.PVH
    efi_stub = bytearray(bzimage())
    efi_stub[:2] = b"MZ"
    assert parse(bytes(efi_stub)).protocol is Protocol.LINUX64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"hello", "neither a bzImage nor an ELF image"),
        (bytes(1 << 16), "neither a bzImage nor an ELF image"),
        (gzip.compress(bzimage()), "a gzip file; decompress it"),
        (lzma.compress(bzimage()), "an xz file; decompress it"),
        (b"070701" + b"0" * 200, "a cpio archive"),
        (b"#!/bin/sh\n", "a script"),
        (b"MZ" + bytes(4094), "without a Linux setup header"),
    ],
)
def test_other_files_are_named(data, message):
    with pytest.raises(ImageError, match=message):
        parse(data)
