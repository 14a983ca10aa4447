# SPDX-License-Identifier: Apache-2.0
"""Where a serial port or console can go, with real files, terminals and sockets."""

from __future__ import annotations

import os
import pty
import select
import socket
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.config_devices import SerialConfig, SerialMode
from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.devices.terminal import SocketTerminal, Terminal, open_terminal

DEADLINE = 20.0


def descriptors() -> set[str]:
    return {fd.name for fd in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before


def failure(config: SerialConfig) -> VmFailure:
    with pytest.raises(VmFailure) as caught:
        open_terminal("/console", config)
    return caught.value


@pytest.mark.parametrize("mode", [SerialMode.OFF, SerialMode.NULL])
def test_modes_without_a_peer(mode: SerialMode) -> None:
    terminal = open_terminal("/console", SerialConfig(mode=mode))
    assert terminal.input == -1
    assert (terminal.output == -1) == (mode is SerialMode.OFF)
    assert terminal.path is None
    assert terminal.listener is None
    assert not terminal.hang_up()
    assert not terminal.accept()
    terminal.close()
    terminal.close()


def test_a_file_is_written_from_its_start_and_is_not_for_others(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("what was there")
    terminal = open_terminal("/console", SerialConfig(mode=SerialMode.FILE, file=str(path)))
    os.write(terminal.output, b"new")
    path.write_text("")  # as log rotation does
    os.write(terminal.output, b"newer")
    terminal.close()
    assert path.read_text() == "newer"
    path.unlink()
    open_terminal("/console", SerialConfig(mode=SerialMode.FILE, file=str(path))).close()
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_a_file_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "missing":
        path = path / "y"
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    ex = failure(SerialConfig(mode=SerialMode.FILE, file=str(path)))
    assert ex.error.code is ErrorCode.FILE_UNAVAILABLE
    assert str(path) in ex.error.message
    assert [field.pointer for field in ex.error.fields] == ["/console/file"]
    assert ex.error.causes


def test_a_pty_is_raw_and_stays_so_between_clients() -> None:
    terminal = open_terminal("/console", SerialConfig(mode=SerialMode.PTY))
    assert terminal.path is not None
    assert terminal.input == terminal.output
    for _ in range(2):
        client = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
        os.write(client, b"up\n")
        assert os.read(terminal.input, 10) == b"up\n"
        os.write(terminal.output, b"down\r\n")
        assert os.read(client, 10) == b"down\r\n"
        os.close(client)
    terminal.close()
    assert not Path(terminal.path).exists()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[SocketTerminal, str]]:
    path = str(tmp_path / "serial.sock")
    terminal = open_terminal("/console", SerialConfig(mode=SerialMode.SOCKET, socket=path))
    assert isinstance(terminal, SocketTerminal)
    yield terminal, path
    terminal.close()
    assert not list(tmp_path.iterdir())


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect(path)
    return client


def accept(terminal: Terminal) -> None:
    assert terminal.listener is not None
    assert select.select([terminal.listener], [], [], DEADLINE)[0]
    assert terminal.accept()


def test_a_new_client_of_a_socket_takes_the_place_of_the_old(
    listening: tuple[SocketTerminal, str],
) -> None:
    terminal, path = listening
    assert not terminal.accept()
    assert terminal.input == -1
    with connect(path) as first:
        accept(terminal)
        assert not terminal.hang_up()
        os.write(terminal.output, b"one")
        assert first.recv(10) == b"one"
        with connect(path) as second:
            accept(terminal)
            assert first.recv(10) == b""
            # What the port says of the first now must not end the second.
            assert not terminal.hang_up()
            os.write(terminal.output, b"two")
            assert second.recv(10) == b"two"
            second.sendall(b"three")
            assert os.read(terminal.input, 10) == b"three"
            second.shutdown(socket.SHUT_WR)
            assert not terminal.hang_up()
        assert terminal.hang_up()
    assert terminal.output == -1
    assert not terminal.hang_up()


def test_a_socket_is_for_its_group_only(listening: tuple[SocketTerminal, str]) -> None:
    assert stat.S_IMODE(Path(listening[1]).stat().st_mode) == 0o660


def test_a_client_sees_the_end(listening: tuple[SocketTerminal, str]) -> None:
    terminal, path = listening
    with connect(path) as client:
        accept(terminal)
        os.write(terminal.output, b"last words")
        terminal.close()
        assert client.recv(100) == b"last words"
        assert client.recv(100) == b""
    terminal.close()


def test_a_socket_in_use_is_left_alone(listening: tuple[SocketTerminal, str]) -> None:
    ex = failure(SerialConfig(mode=SerialMode.SOCKET, socket=listening[1]))
    assert ex.error.code is ErrorCode.HOST_RESOURCE
    assert listening[1] in ex.error.message
    assert [field.pointer for field in ex.error.fields] == ["/console/socket"]
    with connect(listening[1]):
        accept(listening[0])


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "stale.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    terminal = open_terminal("/console", SerialConfig(mode=SerialMode.SOCKET, socket=path))
    with connect(path):
        accept(terminal)
    terminal.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["there/is/none", "x" * 120, "file"])
def test_a_socket_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("precious")
    ex = failure(SerialConfig(mode=SerialMode.SOCKET, socket=str(tmp_path / name)))
    assert ex.error.code is ErrorCode.HOST_RESOURCE
    assert (tmp_path / "file").read_text() == "precious"


TTY = """
import fcntl, os, sys, termios
from ipc_protocol.config_devices import SerialConfig, SerialMode
from vmm_worker.devices.terminal import open_terminal
place = sys.argv[1]
os.setsid()
if place != "uncontrolled":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if place == "background":
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setpgid(0, 0)
terminal = open_terminal("/console", SerialConfig(mode=SerialMode.TTY))
assert (terminal.input, terminal.output) == (0, 1)
os.write(2, b"cooked" if termios.tcgetattr(0)[3] & termios.ICANON else b"raw")
assert not terminal.hang_up()
modes = termios.tcgetattr(0)
other = open_terminal("/serial", SerialConfig(mode=SerialMode.TTY), stdin=False)
assert (other.input, other.output) == (-1, 1)
other.close()
assert termios.tcgetattr(0) == modes
terminal.close()
terminal.close()
"""


@pytest.mark.parametrize(
    ("place", "mode"), [("foreground", "raw"), ("uncontrolled", "raw"), ("background", "cooked")]
)
def test_a_terminal_is_raw_meanwhile_unless_it_is_anothers(place: str, mode: str) -> None:
    main, client = pty.openpty()
    try:
        before = termios.tcgetattr(client)
        done = subprocess.run(
            [sys.executable, "-c", TTY, place],
            check=False,
            stdin=client,
            stdout=client,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        assert (done.returncode, done.stderr) == (0, mode)
        assert termios.tcgetattr(client) == before
    finally:
        os.close(main)
        os.close(client)
