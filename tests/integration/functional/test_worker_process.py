# SPDX-License-Identifier: Apache-2.0
"""The process: its command line, its socket, its signals and its end."""

from __future__ import annotations

import signal
import stat
import time
from pathlib import Path

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmState
from ipc_protocol.names import ipc_path
from tests.support.guests import build
from tests.support.processes import DEADLINE, Worker, eventually, start_worker, vm_config

pytestmark = pytest.mark.kvm

SMALL = ("--memory", "size=16M")


def left(directory: Path) -> set[str]:
    """Return what is there besides logs."""
    return {path.name for path in directory.iterdir() if path.suffix != ".log"}


# ---- the command line ----------------------------------------------------------


def test_a_guest_from_the_command_line_ends_the_process(tmp_path: Path) -> None:
    console = tmp_path / "console"
    with start_worker(
        tmp_path,
        *("--kernel", build("poweroff"), *SMALL, "--serial", f"file={console}"),
        ready=False,
    ) as worker:
        assert worker.wait() == 0
    assert console.read_text() == "power off\n"
    assert left(tmp_path) == {"console"}


def test_no_shutdown_keeps_the_process(tmp_path: Path) -> None:
    with start_worker(tmp_path, "--kernel", build("poweroff"), *SMALL, "--no-shutdown") as worker:
        info = worker.wait_for(state=VmState.SHUTDOWN)
        assert info.boots == 1
        assert worker.call("vmm.ping").pid == worker.pid


def test_a_guest_that_failed_ends_the_process_with_an_error(tmp_path: Path) -> None:
    with start_worker(tmp_path, "--kernel", build("badjump"), *SMALL, ready=False) as worker:
        assert worker.wait() == 1
        assert "internal_error" in worker.read_log()


def test_the_vm_of_the_command_line_is_a_vm_like_any_other(tmp_path: Path) -> None:
    with start_worker(
        tmp_path,
        *("--kernel", build("hello"), "--cmdline", "a=b", "--cpus", "boot=2,max=4", *SMALL),
    ) as worker:
        info = worker.wait_for(state=VmState.RUNNING)
        assert info.config.payload.cmdline == "a=b"
        assert (info.config.cpus.boot_vcpus, info.config.cpus.max_vcpus) == (2, 4)
        worker.call("vm.shutdown")
        worker.call("vm.boot")
        worker.call("vm.delete")
        worker.call("vm.create", vm_config(build("hello")))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--kernel", "/nonexistent/kernel"], "/nonexistent/kernel"),
        (["--kernel", "/dev/null"], "velum-vmm: "),
        (["--kernel", "/dev/null", "--cpus", "boot=255"], "  /cpus/boot_vcpus: "),
        (["--kernel", "/dev/null", "--memory", "size=5000"], "  /memory/size: "),
    ],
)
def test_a_vm_that_cannot_be_is_the_end(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    with start_worker(tmp_path, *arguments, ready=False) as worker:
        assert worker.wait() == 1
        assert "velum-vmm: " in worker.read_log()
        assert complaint in worker.read_log()
        assert "Traceback" not in worker.read_log()
    assert left(tmp_path) == set()


# ---- the socket ----------------------------------------------------------------


def test_the_runtime_directory_is_made_for_the_group_only(tmp_path: Path) -> None:
    place = tmp_path / "velum"
    with Worker(
        ipc_path(place, "web"), "--runtime-dir", place, "--name", "web", log=tmp_path / "log"
    ) as worker:
        worker.wait_until_ready()
        assert stat.S_IMODE(place.stat().st_mode) == 0o750
        assert stat.S_IMODE(worker.ipc.parent.stat().st_mode) == 0o710
        assert stat.S_IMODE(worker.ipc.stat().st_mode) == 0o660
    assert left(place) == set()


def complaint(tmp_path: Path, *arguments: object) -> str:
    """Return the one line that a worker says which cannot listen."""
    with Worker(tmp_path / "unused", *arguments, log=tmp_path / "complaint") as worker:
        assert worker.wait() == 1
        log = worker.read_log()
    assert log.startswith("velum-vmm: ")
    assert log.count("\n") == 1
    return log


def test_the_runtime_directory_is_not_made_with_its_parents(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    assert str(place) in complaint(tmp_path, "--runtime-dir", place)
    assert not (tmp_path / "a").exists()


def test_a_live_worker_is_left_alone(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        line = complaint(tmp_path, "--runtime-dir", tmp_path)
        assert str(worker.ipc) in line
        assert str(worker.pid) in line
        worker.call("vmm.ping")


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert str(tmp_path / "file") in complaint(tmp_path, "--ipc", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_killed_worker_is_no_obstacle_to_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        with start_worker(tmp_path, "--kernel", build("hello"), *SMALL) as worker:
            worker.wait_for(state=VmState.RUNNING)
            assert worker.stop(signal.SIGKILL) == -signal.SIGKILL
            with pytest.raises(VmFailure) as caught:
                worker.info()
            assert caught.value.error.code is ErrorCode.VMM_UNAVAILABLE
        assert worker.ipc.is_socket()


# ---- the end -------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_an_idle_worker(tmp_path: Path, number: signal.Signals) -> None:
    with start_worker(tmp_path) as worker:
        assert worker.stop(number) == 0
    assert left(tmp_path) == set()


@pytest.mark.parametrize("paused", [False, True])
def test_a_signal_ends_a_guest_that_does_not_listen(tmp_path: Path, paused: bool) -> None:
    with start_worker(
        tmp_path, "--kernel", build("hello"), *SMALL, "--shutdown-timeout", "0.2"
    ) as worker:
        worker.wait_for(state=VmState.RUNNING)
        if paused:
            worker.call("vm.pause")
        assert worker.stop() == 0
    assert left(tmp_path) == set()


def boot_with_button(tmp_path: Path) -> Worker:
    console = tmp_path / "console"
    worker = start_worker(
        tmp_path,
        *("--kernel", build("button"), *SMALL, "--serial", f"file={console}"),
        *("--shutdown-timeout", "30"),
    )
    eventually(lambda: console.exists() and "button ready" in console.read_text(), "it listens")
    return worker


def test_sigterm_asks_the_guest_to_power_off(tmp_path: Path) -> None:
    with boot_with_button(tmp_path) as worker:
        begin = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begin < DEADLINE
    assert "flags 08" in (tmp_path / "console").read_text()
    assert "power_off" in worker.read_log()


def test_reads_are_answered_and_changes_refused_while_the_guest_powers_off(
    tmp_path: Path,
) -> None:
    with start_worker(
        tmp_path, "--kernel", build("hello"), *SMALL, "--shutdown-timeout", "60"
    ) as worker:
        worker.wait_for(state=VmState.RUNNING)
        worker.process.send_signal(signal.SIGTERM)
        error = eventually(lambda: refusal(worker), "changes are refused")
        assert error is ErrorCode.VMM_UNAVAILABLE
        assert worker.info().state is VmState.RUNNING
        # The second signal does not wait for the guest.
        assert worker.stop() == 0


def refusal(worker: Worker) -> ErrorCode | None:
    try:
        worker.call("vm.power-button")
    except VmFailure as ex:
        return ex.error.code
    return None


def test_a_guest_that_resets_instead_is_not_booted_again(tmp_path: Path) -> None:
    with start_worker(
        tmp_path, "--kernel", build("reset"), *SMALL, "--shutdown-timeout", "60"
    ) as worker:
        worker.wait_until(lambda info: info.boots >= 2, "the guest resets")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert left(tmp_path) == set()
