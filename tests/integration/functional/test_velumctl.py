# SPDX-License-Identifier: Apache-2.0
"""velumctl with the real server, a real worker and a real guest."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import DEADLINE, Worker
from tests.support.terminal import Terminal, set_window
from tests.support.velumctl import Velumctl

pytestmark = pytest.mark.kvm

DETACH = b"\x1d"
"""What ctrl-] sends."""


@pytest.fixture
def velumctl(worker: Worker, tmp_path: Path) -> Iterator[Velumctl]:
    """Return velumctl for the server of a worker."""
    del worker
    with ApiProcess(tmp_path) as api:
        yield Velumctl(api.socket)


def attached(
    velumctl: Velumctl, terminal: Terminal, *arguments: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Start a session on a terminal of a test's."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.client)
    return velumctl.start("console", *arguments, **streams)


def test_a_life(velumctl: Velumctl, worker: Worker, tmp_path: Path) -> None:
    config = tmp_path / "web.toml"
    config.write_text(
        f'console.mode = "Off"\nmemory.size = {16 << 20}\npayload.kernel = "{build("count")}"\n'
    )
    assert velumctl("wait", "--state", "notcreated") == (0, "", "")
    assert velumctl("create", "--from", config) == (0, "", "")
    assert velumctl("create", "--from", config).code == 5
    assert velumctl("pause").code == 5
    assert velumctl("boot") == (0, "", "")
    assert velumctl("wait", "--state", "running", "--within", DEADLINE).code == 0
    assert "exits_" in velumctl("counters").out
    for command, state in (("pause", "Paused"), ("resume", "Running"), ("reboot", "Running")):
        assert velumctl(command) == (0, "", "")
        assert f"state    {state} " in velumctl("info").out
    assert velumctl("shutdown") == (0, "", "")
    assert velumctl("delete") == (0, "", "")
    assert velumctl("info").code == 4
    assert velumctl("shutdown-vmm") == (0, "", "")
    assert worker.wait() == 0
    assert velumctl("wait", "--state", "gone", "--within", DEADLINE).code == 0
    assert velumctl("ping").code == 7


def test_a_boot_that_fails_names_the_field(velumctl: Velumctl, tmp_path: Path) -> None:
    config = tmp_path / "web.yaml"
    config.write_text("payload:\n  kernel: /nowhere/vmlinuz\nconsole: {mode: Off}\n")
    outcome = velumctl("create", "--from", config, "--boot")
    assert outcome.code == 1
    assert f"--> {config}:2:3: /payload/kernel" in outcome.err


@pytest.mark.parametrize("kind", ["pty", "socket"])
def test_console(kind: str, velumctl: Velumctl, terminal: Terminal, tmp_path: Path) -> None:
    serial = "pty" if kind == "pty" else f"socket={tmp_path / 'serial.sock'}"
    created = velumctl(
        *("create", "--kernel", build("echo"), "--memory", "size=16M"),
        *("--serial", serial, "--console", "off", "--boot"),
    )
    assert created == (0, "", "")
    for text in (b"one\x03", b"two\x04"):  # The guest's are Ctrl-C and Ctrl-D.
        with attached(velumctl, terminal) as session:
            terminal.console.expect(b"attached to the serial of localhost; ctrl-] detaches")
            terminal.console.send(text)
            terminal.console.expect(text)
            assert terminal.raw()
            terminal.console.send(DETACH)
            terminal.console.expect(b"detached")
            assert session.wait(DEADLINE) == 0
        assert not terminal.raw()
    with attached(velumctl, terminal, "serial", "--detach-key", "ctrl-a") as session:
        terminal.console.expect(b"ctrl-a detaches")
        terminal.console.send(b"three" + DETACH)
        terminal.console.expect(b"three" + DETACH)
        # The guest ends at a q, and with it what is attached to it.
        terminal.console.send(b"q")
        terminal.console.expect(b"the worker closed the serial")
        assert session.wait(DEADLINE) == 5
    assert not terminal.raw()


def test_the_console_has_the_size_of_the_window(velumctl: Velumctl, terminal: Terminal) -> None:
    created = velumctl(
        *("create", "--kernel", build("console"), "--memory", "size=16M"),
        *("--console", "pty", "--boot"),
    )
    assert created == (0, "", "")
    set_window(terminal.client, 101, 31)
    with attached(velumctl, terminal) as session:
        terminal.console.expect(b"101x31")
        set_window(terminal.client, 77, 22)
        session.send_signal(signal.SIGWINCH)
        terminal.console.expect(b"77x22")
        terminal.console.send(DETACH)
        assert session.wait(DEADLINE) == 0


def test_a_console_that_is_piped(velumctl: Velumctl) -> None:
    created = velumctl(
        *("create", "--kernel", build("echo"), "--memory", "size=16M"),
        *("--serial", "pty", "--console", "off", "--boot"),
    )
    assert created == (0, "", "")
    with velumctl.start("console", bufsize=0) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(b"hello!")
        assert b"".join(iter(lambda: session.stdout.read(1), b"!")).endswith(b"hello")
        session.stdin.write(b"q")
        session.stdin.close()
        assert session.wait(DEADLINE) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_itself_again_whatever_ends_the_session(
    number: signal.Signals, velumctl: Velumctl, terminal: Terminal
) -> None:
    created = velumctl(
        *("create", "--kernel", build("echo"), "--memory", "size=16M"),
        *("--serial", "pty", "--console", "off", "--boot"),
    )
    assert created == (0, "", "")
    with attached(velumctl, terminal) as session:
        terminal.console.expect(b"detaches")
        assert terminal.raw()
        session.send_signal(number)
        assert session.wait(DEADLINE) == 128 + number
    assert not terminal.raw()
