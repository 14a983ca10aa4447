# SPDX-License-Identifier: Apache-2.0
"""A worker that was told to opens nothing but what its VM is made of."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import VmState
from kvm_shim.landlock import landlock_version
from tests.support.guests import build
from tests.support.processes import Worker, make_file, start_worker, vm_config
from tests.support.threads import open_from_threads

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock"),
]

SIZE = 1 << 20
UNFILTERED = ("--seccomp", "false")
"""For threads that are to open files although their filters forbid the very call."""


def confined(tmp_path: Path, **parts: Any) -> dict[str, Any]:
    """Return the configuration of a VM with a device of every kind that has files."""
    sockets = tmp_path / "sockets"
    sockets.mkdir(exist_ok=True)
    return vm_config(
        build("echo"),
        **{
            "landlock_enable": True,
            "disks": [
                {"path": make_file(tmp_path / "disk", SIZE)},
                {"path": make_file(tmp_path / "image", SIZE), "readonly": True},
            ],
            "pmem": [{"file": make_file(tmp_path / "pmem", 2 * SIZE)}],
            "serial": {"mode": "File", "file": str(tmp_path / "serial")},
            "console": {"mode": "Socket", "socket": str(sockets / "console.sock")},
            "vsock": {"cid": 3, "socket": str(sockets / "vsock.sock")},
            "balloon": {"size": 0},
            "watchdog": True,
            **parts,
        },
    )


def boot(worker: Worker, config: dict[str, Any]) -> None:
    worker.call("vm.create", config)
    worker.call("vm.boot")
    worker.wait_for(state=VmState.RUNNING)


UNFILTERED = ("--seccomp", "false")
"""For threads that are to make a system call which their filter would kill them for."""


def opened(worker: Worker, flags: int, *paths: Path) -> dict[str, set[int]]:
    """Return how each thread fared that opened the files: errors by the thread's name."""
    fared: dict[str, set[int]] = {}
    for each in open_from_threads(worker.pid, flags, *paths):
        fared.setdefault(each.thread.rstrip("0123456789"), set()).add(each.errno)
    return fared


def test_no_thread_opens_what_is_not_the_vms(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of another VM")
    with start_worker(tmp_path, *UNFILTERED) as worker:
        config = confined(tmp_path)
        boot(worker, config)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_CREAT):
            fared = opened(worker, flags, other, Path("/etc/passwd"), Path("/dev/zero"))
            assert {"ZMQbg/Reaper", "ZMQbg/IO/"} <= fared.keys()
            assert len(fared) > 2
            assert {name: each for name, each in fared.items() if each != {errno.EACCES}} == {}
        fared = opened(worker, os.O_WRONLY, tmp_path / "image", tmp_path / "sockets")
        assert all(each <= {errno.EACCES, errno.EISDIR} for each in fared.values())
        assert all(errno.EACCES in each for each in fared.values())
        own = opened(worker, os.O_RDWR, tmp_path / "disk", tmp_path / "pmem")
        assert {0} in own.values()
        assert own["ZMQbg/IO/"] == {errno.EACCES}
    assert other.read_text() == "of another VM"


def test_threads_that_need_no_file_open_none_from_the_start(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    with start_worker(tmp_path, *UNFILTERED) as worker:
        boot(worker, confined(tmp_path, landlock_enable=False))
        fared = opened(worker, os.O_RDWR, other)
        assert fared.pop("ZMQbg/Reaper") == fared.pop("ZMQbg/IO/") == {errno.EACCES}
        assert fared
        assert all(each == {0} for each in fared.values())


def test_a_confined_vm_lives_as_any_other(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        config = confined(tmp_path)
        boot(worker, config)
        for operation in ("vm.pause", "vm.resume", "vm.reboot", "vm.counters", "vmm.metrics"):
            worker.call(operation)
        worker.call("vm.shutdown")
        worker.call("vm.boot")
        worker.call("vm.delete")
        boot(worker, config)
        console = tmp_path / "sockets" / "console.sock"
        assert console.is_socket()
    assert not console.exists()
    names = {path.name for path in tmp_path.iterdir()} - {worker.log.name}
    assert names == {"disk", "image", "pmem", "serial", "sockets"}


def test_another_vm_needs_another_worker(tmp_path: Path) -> None:
    second = make_file(tmp_path / "second", SIZE)
    with start_worker(tmp_path) as worker:
        boot(worker, confined(tmp_path))
        worker.call("vm.shutdown")
        error = worker.error("vm.add-disk", {"path": second})
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert [field.pointer for field in error.fields] == ["/disks/2/path"]
        assert "restart the worker" in error.message
        worker.call("vm.delete")
        error = worker.error(
            "vm.create",
            vm_config(
                shutil.copy(build("hello"), tmp_path),
                disks=[
                    {"path": str(tmp_path / "disk")},
                    {"path": second},
                    # Read only, as it was; then written, as it was not.
                    {"path": str(tmp_path / "image")},
                ],
                serial={"mode": "File", "file": str(tmp_path / "elsewhere")},
            ),
        )
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert [field.pointer for field in error.fields] == [
            "/payload/kernel",
            "/disks/1/path",
            "/disks/2/path",
            "/serial/file",
        ]


def test_a_file_put_in_place_of_another_is_another(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        boot(worker, confined(tmp_path))
        worker.call("vm.shutdown")
        make_file(tmp_path / "new", SIZE)
        (tmp_path / "new").rename(tmp_path / "disk")
        error = worker.error("vm.boot")
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert [field.pointer for field in error.fields] == ["/disks/0/path"]


def test_rules_leave_room_for_more(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    second = make_file(store / "second", SIZE)
    rules = [{"path": str(store), "access": "rw"}]
    with start_worker(tmp_path) as worker:
        boot(worker, confined(tmp_path, landlock_rules=rules))
        worker.call("vm.shutdown")
        worker.call("vm.add-disk", {"path": second})
        worker.call("vm.boot")
        assert worker.info().config.landlock_rules[0].path == str(store)


def test_a_rule_for_what_is_not_there(tmp_path: Path) -> None:
    rules = [{"path": str(tmp_path / "none"), "access": "r"}]
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", confined(tmp_path, landlock_rules=rules))
        error = worker.error("vm.boot")
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert [field.pointer for field in error.fields] == ["/landlock_rules/0/path"]
        # Nothing was given up: the same worker boots it once the path is there.
        (tmp_path / "none").mkdir()
        worker.call("vm.boot")


def test_rules_do_nothing_by_themselves(tmp_path: Path) -> None:
    rules = [{"path": str(tmp_path / "none"), "access": "r"}]
    with start_worker(tmp_path) as worker:
        boot(worker, vm_config(build("echo"), landlock_rules=rules))
