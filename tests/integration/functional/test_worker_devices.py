# SPDX-License-Identifier: Apache-2.0
"""The devices of a VM in a worker: from vm.create over reboots to nothing left behind."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc_protocol.client import Client
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation, VmInfo, VmState
from tests.support.console import Console
from tests.support.guests import build
from tests.support.network import namespace_problem, own_network
from tests.support.processes import DEADLINE, Worker, eventually, make_file, start_worker, vm_config

pytestmark = pytest.mark.kvm

MIB = 1 << 20


@pytest.fixture
def networked(tmp_path: Path) -> Iterator[Worker]:
    """Start a worker in a network of its own."""
    problem = namespace_problem()
    if problem is not None:
        pytest.skip(problem)
    with own_network(), start_worker(tmp_path) as worker:
        yield worker


def everything(directory: Path) -> dict[str, Any]:
    """Return the parts of a configuration that has every kind of device."""
    limit = {"ops": {"size": 1000, "refill_time": 100}}
    return {
        "console": {"mode": "Socket", "socket": str(directory / "console.sock")},
        "rate_limit_groups": [{"id": "slow", "rate_limiter_config": limit}],
        "disks": [
            {"path": make_file(directory / "a.raw", MIB), "rate_limit_group": "slow"},
            {"path": make_file(directory / "b.raw", MIB), "id": "data", "readonly": True},
        ],
        "net": [{"tap": "velum0", "ip": "10.9.0.1", "mask": "255.255.255.0"}, {"id": "lan"}],
        "rng": {"rate_limiter_config": limit},
        "pmem": [{"file": make_file(directory / "p.pmem", 2 * MIB), "pci_device_id": 20}],
        "vsock": {"cid": 3, "socket": str(directory / "vsock.sock")},
        "balloon": {"size": 0, "statistics": True},
        "watchdog": True,
        "pvpanic": True,
    }


IDS = {
    "__console",
    "_disk0",
    "data",
    "_net1",
    "lan",
    "__rng",
    "_pmem2",
    "_vsock3",
    "__balloon",
    "__watchdog",
    "__pvpanic",
}


def shown_ids(info: VmInfo) -> list[str | None]:
    config = info.config
    single = (config.console, config.rng, config.vsock, config.balloon)
    several = (*config.disks, *config.net, *config.pmem)
    return [each.id for each in (*single, *several) if each]


def locked(path: Path) -> bool:
    """Tell whether somebody holds a lock on a file."""
    with path.open("r+b") as file:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        (kind,) = struct.unpack_from("h", fcntl.fcntl(file, fcntl.F_OFD_GETLK, request))
    return bool(kind != fcntl.F_UNLCK)


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def delete(worker: Worker) -> None:
    """Delete the VM, and have the control loop come round again: it stops polling then."""
    worker.call("vm.delete")
    worker.call("vmm.ping")


def test_every_device_over_reboots_and_nothing_left(networked: Worker, tmp_path: Path) -> None:
    worker = networked
    # The first VM loads what stays loaded.
    for parts in ({}, everything(tmp_path)):
        worker.call("vm.create", vm_config(build("count"), **parts))
        worker.call("vm.boot")
        delete(worker)
    descriptors, threads = worker.descriptors(), worker.threads()
    files = {path.name for path in tmp_path.iterdir()}

    worker.call("vm.create", vm_config(build("count"), **everything(tmp_path)))
    worker.call("vm.boot")
    info = worker.info()
    assert set(shown_ids(info)) == IDS - {"__watchdog", "__pvpanic"}
    macs = [net.mac for net in info.config.net]
    assert all(mac and re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", mac) for mac in macs)
    assert info.config.net[0].tap == "velum0"
    assert {"velum0", info.config.net[1].tap} <= interfaces()
    assert locked(tmp_path / "a.raw")
    assert locked(tmp_path / "p.pmem")
    assert set(worker.call("vm.counters")) >= IDS
    worker.call("vm.reboot")
    worker.call("vm.pause")
    again = msgspec.structs.replace(info, boots=2, state=VmState.PAUSED)
    assert worker.info() == again
    assert set(worker.call("vm.counters")) >= IDS
    worker.call("vm.shutdown")
    worker.call("vm.boot")
    info = worker.info()
    assert set(shown_ids(info)) == IDS - {"__watchdog", "__pvpanic"}
    assert [net.mac for net in info.config.net] == macs

    delete(worker)
    assert worker.descriptors() == descriptors
    assert worker.threads() == threads
    assert {path.name for path in tmp_path.iterdir()} == files
    assert not locked(tmp_path / "a.raw")
    assert not locked(tmp_path / "p.pmem")
    assert "velum0" not in interfaces()
    assert "WARNING" not in worker.read_log()


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"console": {"mode": "File", "file": "/nowhere/console"}}, "/console/file"),
        ({"disks": [{"path": "/dev/null"}]}, "/disks/0/path"),
        ({"rng": {"src": "/nowhere/entropy"}}, "/rng/src"),
        ({"pmem": [{"file": "/nowhere/pmem"}]}, "/pmem/0/file"),
        ({"vsock": {"cid": 3, "socket": "/nowhere/vsock"}}, "/vsock/socket"),
    ],
)
def test_a_device_that_cannot_be_opened_is_named(
    worker: Worker, tmp_path: Path, parts: dict[str, Any], pointer: str
) -> None:
    image = tmp_path / "first.raw"
    parts["disks"] = [*parts.get("disks", ()), {"path": make_file(image, MIB)}]
    worker.call("vm.create", vm_config(build("count"), **parts))
    descriptors = worker.descriptors()
    error = worker.error("vm.boot")
    assert [each.pointer for each in error.fields] == [pointer]
    assert error.causes
    assert worker.info().state is VmState.CREATED
    assert worker.descriptors() == descriptors
    assert not locked(image)


def test_a_disk_serves_one_vm_at_a_time(worker: Worker, tmp_path: Path) -> None:
    disks = [{"path": make_file(tmp_path / "disk.raw", MIB)}]
    worker.call("vm.create", vm_config(build("count"), disks=disks))
    worker.call("vm.boot")
    with start_worker(tmp_path, name="second") as second:
        second.call("vm.create", vm_config(build("count"), disks=disks))
        error = second.error("vm.boot")
        assert error.code is ErrorCode.FILE_UNAVAILABLE
        assert [each.pointer for each in error.fields] == ["/disks/0/path"]
        worker.call("vm.shutdown")
        second.call("vm.boot")


def test_a_console_takes_its_clients_and_lets_them_go(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    console = {"mode": "Socket", "socket": str(path), "id": "hvc"}
    worker.call("vm.create", vm_config(build("console"), console=console))
    worker.call("vm.boot")
    for word in (b"one", b"two"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(path))
            with Console(client.detach()) as terminal:
                terminal.send(word)
                terminal.expect(word)
    counters = worker.call("vm.counters")["hvc"]
    assert counters["received"] == len(b"onetwo")


def test_a_crash_of_the_guest_is_shown(worker: Worker) -> None:
    # The guest looks for the device in slot 1.
    parts = {"pvpanic": True, "console": {"mode": "Off"}, "rng": {"pci_device_id": 2}}
    worker.call("vm.create", vm_config(build("panic"), **parts))
    worker.call("vm.boot")
    info = worker.wait_for(state=VmState.SHUTDOWN)
    # It ran on, and powered off.
    assert info.last_stop is not None
    assert info.last_stop.reason == "power_off"
    assert info.last_panic is not None
    assert (info.last_panic.reason, info.last_panic.source) == ("panic", "__pvpanic")
    assert "crash kernel" in info.last_panic.detail
    assert info.last_panic.time <= info.last_stop.time
    assert "__pvpanic: the guest panicked" in worker.read_log()
    worker.call("vm.delete")
    worker.call("vm.create", vm_config(build("count"), **parts))
    worker.call("vm.boot")
    assert worker.info().last_panic is None


def test_the_balloon_of_a_running_vm_is_resized(worker: Worker) -> None:
    memory = 24 * MIB
    config = vm_config(build("balloon"), balloon={"size": 0}, payload={"cmdline": "pages=1024"})
    worker.call("vm.create", config | {"memory": {"size": memory}})
    worker.call("vm.resize", {"desired_ram": memory, "desired_balloon": MIB})
    assert worker.info().memory_actual_size == memory
    worker.call("vm.boot")
    worker.wait_for(memory_actual_size=memory - MIB)
    worker.call("vm.resize", {"desired_balloon": 4 * MIB})
    info = worker.wait_for(memory_actual_size=memory - 4 * MIB)
    assert info.config.balloon is not None
    assert info.config.balloon.size == 4 * MIB
    # Another machine has the same.
    worker.call("vm.reboot")
    worker.wait_for(memory_actual_size=memory - 4 * MIB)
    worker.call("vm.shutdown")
    assert worker.info().config.balloon is not None
    worker.call("vm.boot")
    worker.call("vm.resize", {"desired_balloon": 0})
    worker.wait_for(memory_actual_size=memory)
    error = worker.error("vm.resize", {"desired_vcpus": 2, "desired_balloon": 4096})
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert [each.pointer for each in error.fields] == ["/desired_vcpus"]
    error = worker.error("vm.resize", {"desired_balloon": memory})
    assert error.code is ErrorCode.INVALID_REQUEST
    assert worker.call("vm.counters")["__balloon"]["target_bytes"] == 0


def test_the_log_says_what_the_guest_takes_into_use(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("balloon"), balloon={"size": 0}))
    worker.call("vm.boot")
    eventually(
        lambda: "INFO __balloon: the guest's driver uses it" in worker.read_log(), "it is logged"
    )


def test_the_log_says_what_a_device_saw(worker: Worker) -> None:
    config = vm_config(
        build("balloon"), balloon={"size": 0, "id": "memory"}, payload={"cmdline": "hostile=1"}
    )
    worker.call("vm.create", config)
    worker.call("vm.boot")
    eventually(lambda: "WARNING memory: " in worker.read_log(), "it is logged")
    assert worker.info().state is VmState.RUNNING


def test_devices_of_the_command_line(tmp_path: Path) -> None:
    image = make_file(tmp_path / "disk.raw", MIB)
    options = (
        *("--kernel", build("count"), "--memory", "size=16M", "--console", "off"),
        *("--disk", f"path={image},id=data,readonly=on", "--rng", "src=/dev/random,id=entropy"),
        *("--balloon", "size=1M", "--vsock", f"cid=3,socket={tmp_path / 'vsock'}", "--watchdog"),
    )
    with start_worker(tmp_path, *options) as worker:
        worker.wait_for(state=VmState.RUNNING)
        counted = set(worker.call("vm.counters"))
        assert {"data", "entropy", "__balloon", "_vsock0", "__watchdog"} <= counted
        assert "__console" not in counted
        assert worker.call("vmm.ping").features == ("io_uring", "kvm")


def test_reads_while_everything_changes(worker: Worker, tmp_path: Path) -> None:
    parts = everything(tmp_path) | {"net": []}
    worker.call("vm.create", vm_config(build("count"), **parts))
    with Client(worker.ipc) as reader, ThreadPoolExecutor(1) as pool:
        done = False

        def read() -> int:
            answers = 0
            while not done:
                reader.call(Operation.VM_INFO)
                try:
                    reader.call(Operation.VM_COUNTERS)
                except VmFailure as ex:
                    if ex.error.code is not ErrorCode.VM_NOT_RUNNING:
                        raise
                answers += 1
            return answers

        reading = pool.submit(read)
        try:
            for _ in range(5):
                worker.call("vm.boot")
                worker.call("vm.resize", {"desired_balloon": MIB})
                worker.call("vm.pause")
                worker.call("vm.reboot")
                worker.call("vm.shutdown")
        finally:
            done = True
        assert reading.result(DEADLINE) > 5
    assert "ERROR" not in worker.read_log()
