# SPDX-License-Identifier: Apache-2.0
"""The guest's console at each place it can go to."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from ipc_protocol.messages import VmState
from tests.support.console import Console
from tests.support.guests import build
from tests.support.processes import DEADLINE, Worker, eventually, start_worker, vm_config
from tests.support.terminal import Terminal, on_terminal

pytestmark = pytest.mark.kvm

TTY = ("--serial", "tty")


def test_file(worker: Worker, tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_text("what was there")
    serial = {"mode": "File", "file": str(console)}
    worker.call("vm.create", vm_config(build("poweroff"), serial=serial))
    for _ in range(2):
        worker.call("vm.boot")
        worker.wait_for(state=VmState.SHUTDOWN)
        # All of it, although the guest powered off right after its last character.
        assert console.read_text() == "power off\n"


def test_pty(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("echo"), serial={"mode": "Pty"}))
    assert worker.info().config.serial.file is None
    worker.call("vm.boot")
    path = worker.info().config.serial.file
    assert path is not None
    for word in (b"one", b"two"):
        # Between two clients nobody listens; the guest goes on.
        with Console(os.open(path, os.O_RDWR | os.O_NOCTTY)) as console:
            if word == b"one":
                console.expect(b"echo ready")
            console.send(word)
            console.expect(word)
    worker.call("vm.reboot")
    assert worker.info().config.serial.file == path
    with Console(os.open(path, os.O_RDWR | os.O_NOCTTY)) as console:
        console.expect(b"echo ready")
    worker.call("vm.shutdown")
    assert worker.info().config.serial.file is None


def test_a_pty_that_nobody_reads_does_not_hold_the_guest_up(worker: Worker) -> None:
    # Three times what a pty holds.
    payload = {"cmdline": "lines=300"}
    config = vm_config(build("chatter"), payload=payload, serial={"mode": "Pty"})
    worker.call("vm.create", config)
    worker.call("vm.boot")
    worker.wait_for(state=VmState.SHUTDOWN)


def test_socket(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    serial = {"mode": "Socket", "socket": str(path)}
    worker.call("vm.create", vm_config(build("echo"), serial=serial))
    assert not path.exists()
    worker.call("vm.boot")
    with Console.connect(path) as first:
        # It was said before anybody listened.
        first.expect(b"echo ready")
        first.send(b"a")
        first.expect(b"a")
        with Console.connect(path) as second:
            # The new client takes the place of the old.
            second.send(b"b")
            second.expect(b"b")
            while first.read(DEADLINE):
                pass
            assert first.hung_up
    with Console.connect(path) as third:
        third.send(b"c")
        third.expect(b"c")
        worker.call("vm.reboot")
        # A reboot is no reason to lose the console.
        third.expect(b"echo ready")
        third.send(b"q")
        third.expect(b"bye")
        while third.read(DEADLINE):
            pass
        assert third.hung_up
    worker.wait_for(state=VmState.SHUTDOWN)
    assert not path.exists()
    assert not path.with_name("console.sock.lock").exists()


def test_a_socket_that_a_killed_worker_left(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    serial = {"mode": "Socket", "socket": str(path)}
    for _ in range(2):
        with start_worker(tmp_path) as worker:
            worker.call("vm.create", vm_config(build("echo"), serial=serial))
            worker.call("vm.boot")
            with Console.connect(path) as console:
                console.expect(b"echo ready")
            worker.stop(signal.SIGKILL)
        assert path.exists()


@pytest.mark.parametrize("mode", ["Null", "Off"])
def test_nowhere(worker: Worker, mode: str) -> None:
    worker.call("vm.create", vm_config(build("poweroff"), serial={"mode": mode}))
    worker.call("vm.boot")
    worker.wait_for(state=VmState.SHUTDOWN)


def test_off_is_no_serial_port(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("hello"), serial={"mode": "Off"}))
    worker.call("vm.boot")

    def unclaimed() -> bool:
        counters = worker.call("vm.counters")
        assert "__serial" not in counters
        return bool(counters["__vcpu0"]["unclaimed_io"])

    eventually(unclaimed, "the guest writes to a port that is not there")


def test_tty(tmp_path: Path, terminal: Terminal) -> None:
    with on_terminal(tmp_path, terminal, "echo", *TTY) as worker:
        terminal.console.expect(b"echo ready")
        assert terminal.raw()
        # Neither echoed by the terminal nor taken for a signal.
        terminal.console.send(b"x\x03y")
        terminal.console.expect(b"x\x03y")
        terminal.console.send(b"q")
        terminal.console.expect(b"bye")
        assert worker.wait() == 0
    assert termios.tcgetattr(terminal.client) == terminal.modes


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_terminal_gets_its_modes_back_on_a_signal(
    tmp_path: Path, terminal: Terminal, end: signal.Signals
) -> None:
    with on_terminal(tmp_path, terminal, "echo", *TTY) as worker:
        terminal.console.expect(b"echo ready")
        assert worker.stop(end) == 0
    assert termios.tcgetattr(terminal.client) == terminal.modes


def test_a_terminal_gets_its_modes_back_after_a_failed_boot(
    tmp_path: Path, terminal: Terminal
) -> None:
    with on_terminal(tmp_path, terminal, "echo", *TTY, "--kvm", "/nonexistent") as worker:
        assert worker.wait() == 1
    assert termios.tcgetattr(terminal.client) == terminal.modes


def test_a_terminal_gets_its_modes_back_while_the_vm_is_down(
    tmp_path: Path, terminal: Terminal
) -> None:
    with on_terminal(tmp_path, terminal, "echo", *TTY, "--no-shutdown") as worker:
        terminal.console.expect(b"echo ready")
        worker.call("vm.shutdown")
        assert termios.tcgetattr(terminal.client) == terminal.modes
        worker.call("vm.boot")
        assert terminal.raw()
        terminal.console.expect(b"echo ready")


def test_stdin_and_stdout_that_are_no_terminal(tmp_path: Path) -> None:
    with start_worker(
        tmp_path,
        *("--kernel", build("echo"), "--memory", "size=16M", *TTY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        ready=False,
    ) as worker:
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        with Console(os.dup(worker.process.stdout.fileno())) as console:
            console.expect(b"echo ready")
            worker.process.stdin.write(b"abc")
            worker.process.stdin.flush()
            console.expect(b"abc")
            # The end of stdin is not the end of the guest.
            worker.process.stdin.close()
            worker.call("vm.reboot")
            console.expect(b"echo ready")
