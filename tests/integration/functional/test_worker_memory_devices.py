# SPDX-License-Identifier: Apache-2.0
"""Balloon and persistent memory as a worker has them, from the configuration to the counters."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ipc_protocol.errors import ErrorCode
from tests.support.guests import build
from tests.support.processes import Worker, eventually, start_worker, vm_config
from tests.support.ram import resident
from vmm_worker.devices.locks import lock_file

pytestmark = pytest.mark.kvm

MIB = 1 << 20
RAM = 32 * MIB
PAGES = 2048
POOL = PAGES * 4096


def counters(worker: Worker, name: str) -> dict[str, int]:
    devices: dict[str, dict[str, int]] = worker.call("vm.counters")
    return devices.get(name, {})


def test_a_balloon_is_resized_and_outlives_a_reboot(tmp_path: Path) -> None:
    config = vm_config(
        build("balloon"),
        payload={"cmdline": f"pages={PAGES}"},
        memory={"size": RAM},
        balloon={"size": 0, "statistics": True},
    )
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", config)
        worker.call("vm.boot")
        pid = worker.process.pid
        eventually(lambda: "guest_minor_faults" in counters(worker, "__balloon"), "statistics")
        full = resident(RAM, pid)
        worker.call("vm.resize", {"desired_balloon": POOL})
        eventually(
            lambda: counters(worker, "__balloon").get("actual_bytes") == POOL, "the pool is given"
        )
        assert resident(RAM, pid) <= full - POOL
        assert worker.info().memory_actual_size == RAM - POOL
        worker.call("vm.reboot")
        eventually(
            lambda: counters(worker, "__balloon").get("actual_bytes") == POOL, "given once more"
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.touch()
    os.truncate(path, 4 * MIB)
    return path


def pmem_config(*files: Path) -> dict[str, object]:
    return vm_config(build("pmem"), pmem=[{"file": str(path)} for path in files])


def test_what_was_flushed_survives_the_worker(file: Path, tmp_path: Path) -> None:
    for directory in ("first", "second"):
        (tmp_path / directory).mkdir()
        with start_worker(tmp_path / directory) as worker:
            worker.call("vm.create", pmem_config(file))
            worker.call("vm.boot")
            eventually(lambda: counters(worker, "_pmem0").get("flushes", 0) > 3, "flushes")
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
        assert file.read_bytes()[:8] == b"written\0"


def test_several_lie_one_behind_the_other(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(2 * MIB))
    console = tmp_path / "console"
    config = pmem_config(file, other) | {"serial": {"mode": "File", "file": str(console)}}
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", config)
        worker.call("vm.boot")
        eventually(lambda: counters(worker, "_pmem0").get("flushes", 0) > 0, "flushes")
        assert [each.id for each in worker.info().config.pmem] == ["_pmem0", "_pmem1"]
    assert console.read_text().startswith(f"{4 << 30:016x} {4 * MIB:016x} {0:016x}\n")


def test_a_file_that_is_in_use_is_named(file: Path, tmp_path: Path) -> None:
    with file.open("rb+") as held, start_worker(tmp_path) as worker:
        lock_file(held.fileno(), exclusive=True)
        worker.call("vm.create", pmem_config(file))
        error = worker.error("vm.boot")
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert error.fields[0].pointer == "/pmem/0/file"
        assert str(file) in error.message
    assert file.read_bytes() == bytes(4 * MIB)
