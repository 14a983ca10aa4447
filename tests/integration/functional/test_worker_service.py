# SPDX-License-Identifier: Apache-2.0
"""The worker as an init system has it: its VM from a file, and what it tells of itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import VmState
from tests.support.guests import build
from tests.support.manager import Notifications
from tests.support.processes import Worker, eventually, start_worker, vm_config

pytestmark = pytest.mark.kvm


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Notifications]:
    """Return a manager that is told things."""
    notifications = Notifications(tmp_path / "notify")
    yield notifications
    notifications.close()


def environment(manager: Notifications, **more: object) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, **manager.environment(**more)}


def described(tmp_path: Path, kernel: str, **parts: Any) -> tuple[str, Path]:
    """Write a VM's file, and return the option that names it."""
    path = tmp_path / "vm.json"
    path.write_text(json.dumps(vm_config(build(kernel), **parts)))
    return "--config", path


def serve(manager: Notifications, tmp_path: Path, *arguments: object, **more: object) -> Worker:
    return start_worker(tmp_path, *arguments, ready=False, env=environment(manager, **more))


# ---- what it tells -------------------------------------------------------------


def test_a_worker_without_a_vm_is_ready_when_it_listens(
    manager: Notifications, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with serve(manager, tmp_path, "--config", tmp_path / "empty") as worker:
        manager.wait_for("READY", "1")
        assert worker.error("vm.info").code is ErrorCode.VM_NOT_CREATED
        manager.wait_for("STATUS", "default: no VM")
        assert worker.stop() == 0
    assert manager.values("STOPPING") == ["1"]


def test_its_status_is_the_vm_s_in_one_line(manager: Notifications, tmp_path: Path) -> None:
    cpus = {"boot_vcpus": 2, "max_vcpus": 4}
    with serve(manager, tmp_path, *described(tmp_path, "hello", cpus=cpus)) as worker:
        manager.wait_for("READY", "1")
        # Ready is who has booted its VM.
        assert worker.info().state is VmState.RUNNING
        manager.wait_for("STATUS", "default: Running, 2 vCPUs, 16 MiB, boot 1")
        worker.call("vm.pause")
        manager.wait_for("STATUS", "default: Paused, 2 vCPUs, 16 MiB, boot 1")
        worker.call("vm.shutdown")
        manager.wait_for("STATUS", "default: Created, 2 vCPUs, 16 MiB, boot 1")
        worker.call("vm.boot")
        manager.wait_for("STATUS", "default: Running, 2 vCPUs, 16 MiB, boot 2")
        worker.call("vm.delete")
        manager.wait_for("STATUS", "default: no VM", beyond=2)
        worker.call("vmm.shutdown")
        assert worker.wait() == 0
    assert manager.values("READY") == ["1"]
    assert manager.values("STOPPING") == ["1"]


def test_a_guest_that_stops_by_itself_leaves_its_worker_and_the_reason(
    manager: Notifications, tmp_path: Path
) -> None:
    with serve(manager, tmp_path, *described(tmp_path, "poweroff")) as worker:
        manager.wait_for("STATUS", "default: Shutdown (power_off), 1 vCPU, 16 MiB, boot 1")
        worker.call("vm.boot")


def test_the_control_loop_says_that_it_is_alive(manager: Notifications, tmp_path: Path) -> None:
    given = described(tmp_path, "hello")
    with serve(manager, tmp_path, *given, WATCHDOG_USEC=300_000) as worker:
        manager.wait_for("READY", "1")
        eventually(lambda: len(manager.values("WATCHDOG")) > 3, "signs of life")
        assert worker.info().state is VmState.RUNNING
        assert worker.stop() == 0


def test_what_the_manager_missed_it_is_told_again(manager: Notifications, tmp_path: Path) -> None:
    manager.close()
    with serve(manager, tmp_path, *described(tmp_path, "hello"), WATCHDOG_USEC=300_000) as worker:
        worker.wait_until_ready()
        worker.wait_for(state=VmState.RUNNING)
        manager.path.unlink()
        with contextlib.closing(Notifications(manager.path)) as attentive:
            attentive.wait_for("READY", "1")
            attentive.wait_for("STATUS", "default: Running, 1 vCPU, 16 MiB, boot 1")
            signs = len(attentive.values("WATCHDOG"))
            eventually(lambda: len(attentive.values("WATCHDOG")) > signs + 2, "signs of life")
            assert attentive.values("READY") == ["1"]
        assert worker.stop() == 0


def test_the_guest_has_its_time_and_the_manager_is_asked_for_it(
    manager: Notifications, tmp_path: Path
) -> None:
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    given = described(tmp_path, "button", serial=serial)
    with serve(manager, tmp_path, *given, "--shutdown-timeout", 200) as worker:
        eventually(lambda: console.exists() and "ready" in console.read_text(), "it listens")
        assert worker.stop() == 0
    assert "flags 08" in console.read_text()
    assert manager.values("STOPPING") == ["1"]
    assert manager.values("EXTEND_TIMEOUT_USEC") == ["215000000"]
    manager.wait_for("STATUS", "stopping")


# ---- what it boots -------------------------------------------------------------


def test_a_vm_is_only_created_where_it_is_not_to_start(
    manager: Notifications, tmp_path: Path
) -> None:
    given = described(tmp_path, "hello", host={"autostart": False})
    with serve(manager, tmp_path, *given) as worker:
        manager.wait_for("READY", "1")
        assert worker.info().state is VmState.CREATED
        worker.call("vm.boot")


@pytest.mark.parametrize("again", [True, False])
def test_after_a_crash_the_vm_boots_again_if_it_is_to(
    manager: Notifications, tmp_path: Path, again: bool
) -> None:
    given = described(tmp_path, "hello", host={"restart": again})
    with serve(manager, tmp_path, *given) as worker:
        manager.wait_for("READY", "1")
        worker.stop(signal.SIGKILL)
    for _ in range(2):
        with serve(manager, tmp_path, *given) as worker:
            worker.wait_until_ready()
            worker.wait_for(state=VmState.RUNNING if again else VmState.CREATED)
            assert ("host.restart" in worker.read_log()) is not again
            worker.stop(signal.SIGKILL)


def test_after_an_end_in_order_the_vm_boots_whatever_is_said_of_crashes(
    manager: Notifications, tmp_path: Path
) -> None:
    given = described(tmp_path, "hello", host={"restart": False})
    for _ in range(2):
        with serve(manager, tmp_path, *given) as worker:
            worker.wait_until_ready()
            worker.wait_for(state=VmState.RUNNING)
            assert worker.stop() == 0
        assert not worker.ipc.parent.exists()


def test_a_vm_that_cannot_boot_is_the_end_and_no_crash(
    manager: Notifications, tmp_path: Path
) -> None:
    given = described(tmp_path, "hello", host={"restart": False})
    given[1].write_text(given[1].read_text().replace(str(build("hello")), "/nowhere/kernel"))
    for _ in range(2):
        with serve(manager, tmp_path, *given) as worker:
            assert worker.wait() == 1
            assert "/payload/kernel" in worker.read_log()
            assert "/nowhere/kernel" in worker.read_log()
    assert manager.values("READY") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"payload": {"kernel": 5}, "host": {"restart": "no"}}', "  /host/restart: "),
        ("{", "is no JSON"),
    ],
)
def test_a_wrong_file_is_a_wrong_command_line(
    manager: Notifications, tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "vm.json"
    path.write_text(text)
    with serve(manager, tmp_path, "--config", path) as worker:
        assert worker.wait() == 2
        assert complaint in worker.read_log()
        assert "Traceback" not in worker.read_log()
    assert manager.values("READY") == []
