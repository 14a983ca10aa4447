# SPDX-License-Identifier: Apache-2.0
"""The virtio console at each place it can go to, the watchdog and the panic device."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from ipc_protocol.messages import VmState
from tests.support.console import Console
from tests.support.guests import build
from tests.support.processes import DEADLINE, Worker, eventually, vm_config
from tests.support.terminal import Terminal, on_terminal, set_window

pytestmark = pytest.mark.kvm

CONSOLE = "__console"


def open_pty(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_NOCTTY)


def test_pty(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("console"), console={"mode": "Pty"}))
    assert worker.info().config.console.file is None
    worker.call("vm.boot")
    path = worker.info().config.console.file
    assert path is not None
    for size in ((100, 30), (90, 20)):
        client = open_pty(path)
        with Console(client) as console:
            set_window(client, *size)
            console.expect(b"%dx%d\n" % size)
            console.send(b"typed")
            console.expect(b"typed")
    worker.call("vm.reboot")
    assert worker.info().config.console.file == path
    with Console(open_pty(path)) as console:
        console.expect(b"x20\n")
    worker.call("vm.shutdown")
    assert worker.info().config.console.file is None


def test_socket(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    console = {"mode": "Socket", "socket": str(path), "id": "tty"}
    worker.call("vm.create", vm_config(build("console"), console=console))
    worker.call("vm.boot")
    with Console.connect(path) as first:
        first.expect(b"0x0\n")
    with Console.connect(path) as second:
        second.send(b"typed")
        second.expect(b"typed")
        worker.call("vm.reboot")
        # A reboot is no reason to lose the console.
        second.expect(b"0x0\n")
        eventually(lambda: worker.call("vm.counters")["tty"]["transmitted"] == 4, "it is counted")
        second.send(b"q")
        while second.read(DEADLINE):
            pass
        assert second.hung_up
    worker.wait_for(state=VmState.SHUTDOWN)
    assert not path.exists()


def test_file(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "console"
    config = vm_config(build("console"), console={"mode": "File", "file": str(path)})
    worker.call("vm.create", config)
    worker.call("vm.boot")
    eventually(lambda: path.read_bytes() == b"0x0\n", "what the guest says is in the file")
    worker.call("vm.pause")
    worker.call("vm.resume")
    worker.call("vm.delete")
    assert path.read_bytes() == b"0x0\n"


def test_a_terminal_and_the_size_of_its_window(tmp_path: Path, terminal: Terminal) -> None:
    set_window(terminal.client, 80, 25)
    with on_terminal(tmp_path, terminal, "console", "--console", "tty") as worker:
        terminal.console.expect(b"80x25\n")
        assert terminal.raw()
        set_window(terminal.client, 132, 43)
        worker.process.send_signal(signal.SIGWINCH)
        terminal.console.expect(b"132x43\n")
        terminal.console.send(b"x\x03y")
        terminal.console.expect(b"x\x03y")
        assert worker.stop() == 0
    assert not terminal.raw()


def test_what_is_typed_is_the_serial_ports_where_both_have_the_terminal(
    tmp_path: Path, terminal: Terminal
) -> None:
    arguments = ("--serial", "tty", "--console", "tty")
    with on_terminal(tmp_path, terminal, "console", *arguments) as worker:
        terminal.console.expect(re.compile(rb"(?=.*console ready)(?=.*0x0)", re.DOTALL))
        terminal.console.send(b"typed")
        eventually(lambda: worker.call("vm.counters")["__serial"]["received"], "it is received")
        assert worker.call("vm.counters")[CONSOLE]["received"] == 0


def test_a_panic_is_on_record_and_no_stop(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("panic"), pvpanic=True))
    assert worker.info().last_panic is None
    worker.call("vm.boot")
    info = worker.wait_for(state=VmState.SHUTDOWN)
    assert info.last_stop is not None
    assert info.last_stop.reason == "power_off"
    assert info.last_panic is not None
    assert info.last_panic.source == "__pvpanic"
    assert "starts its crash kernel" in info.last_panic.detail
    assert "starts its crash kernel" in worker.read_log()


def test_a_guest_comes_by_at_its_watchdog(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "serial.sock"
    serial = {"mode": "Socket", "socket": str(path)}
    worker.call("vm.create", vm_config(build("watchdog"), watchdog=True, serial=serial))
    worker.call("vm.boot")
    with Console.connect(path) as console:
        console.expect(b"watchdog ready\n")
        console.send(b".")
        console.expect(b"seen\n")
    assert worker.call("vm.counters")["__watchdog"]["visits"] == 1
