# SPDX-License-Identifier: Apache-2.0
"""The files of persistent memory: which are taken, and what is said of the others."""

import os

import pytest

from ipc_protocol.config_devices import PmemConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.devices.pmem import Pmem
from vmm_worker.machine.memory import pmem_start

MIB = 1 << 20
GIB = 1 << 30
GPA = 4 * GIB


def pmem(path, **config):
    return Pmem("_pmem0", PmemConfig(file=str(path), **config), GPA, pointer="/pmem/0")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "memory"
    path.touch()
    os.truncate(path, 4 * MIB)
    return path


@pytest.mark.parametrize(
    ("config", "size"),
    [({}, 4 * MIB), ({"size": 2 * MIB}, 2 * MIB), ({"discard_writes": True}, 4 * MIB)],
)
def test_the_next_one_goes_behind_it(path, config, size):
    backend = pmem(path, **config)
    assert backend.end == GPA + size
    backend.close()
    backend.close()


@pytest.mark.parametrize(
    ("size", "config", "words"),
    [
        (0, {}, "multiple of 2 MiB"),
        (3 * MIB, {}, "truncate -s %2M"),
        (3 * MIB, {"size": 4 * MIB}, "less than the 4194304"),
    ],
)
def test_sizes_that_do_not_do(path, size, config, words):
    os.truncate(path, size)
    with pytest.raises(VmFailure, match=r"^/pmem/0/file: the file /.*/memory ") as caught:
        pmem(path, **config)
    assert caught.value.error.code is ErrorCode.FILE_UNAVAILABLE
    assert caught.value.error.fields[0].pointer == "/pmem/0/file"
    assert words in caught.value.error.message


def test_what_is_no_file(tmp_path):
    for name in ("missing", ".", "nul\0"):
        with pytest.raises(VmFailure) as caught:
            pmem(tmp_path / name)
        assert caught.value.error.code is ErrorCode.FILE_UNAVAILABLE
    with pytest.raises(VmFailure, match="neither a regular file nor a block device"):
        pmem("/dev/null")


def test_one_writer_or_any_number_of_readers(path):
    writer = pmem(path)
    for config in ({}, {"discard_writes": True}):
        with pytest.raises(VmFailure, match="it is locked"):
            pmem(path, **config)
    writer.close()
    readers = [pmem(path, discard_writes=True) for _ in range(3)]
    with pytest.raises(VmFailure, match="it is locked"):
        pmem(path)
    for reader in readers:
        reader.close()
    pmem(path).close()


@pytest.mark.parametrize(
    ("ram", "start"),
    [
        (64 * MIB, 4 * GIB),
        (3 * GIB, 4 * GIB),
        (3 * GIB + 4096, 4 * GIB + 2 * MIB),
        (8 * GIB, 9 * GIB),
    ],
)
def test_it_begins_above_all_ram(ram, start):
    assert pmem_start(ram) == start
