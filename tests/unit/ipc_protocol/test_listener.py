# SPDX-License-Identifier: Apache-2.0
"""Who may listen at a path, and what is left of it."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.listener import SocketPath


def refusal(path: Path) -> str:
    with pytest.raises(VmFailure) as caught:
        SocketPath(str(path))
    assert caught.value.error.code is ErrorCode.HOST_RESOURCE
    assert str(path) in caught.value.error.message
    return caught.value.error.message


@pytest.fixture
def unix_socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        yield made


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_the_mode_does_not_depend_on_the_umask(path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        listener = SocketPath(str(path))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listener.close()
    assert not list(path.parent.iterdir())


def test_a_live_path_is_refused_with_the_process_that_has_it(path: Path) -> None:
    listener = SocketPath(str(path))
    assert f"process {os.getpid()}" in refusal(path)
    listener.close()
    SocketPath(str(path)).close()


def test_a_lock_held_by_who_knows_whom(path: Path) -> None:
    with path.with_name("vm.ipc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process listens" in refusal(path)


def test_a_stale_socket_is_replaced(path: Path, unix_socket: socket.socket) -> None:
    unix_socket.bind(str(path))
    unix_socket.close()
    SocketPath(str(path)).close()
    assert not path.exists()


def test_a_live_socket_without_a_lock_is_left_alone(path: Path, unix_socket: socket.socket) -> None:
    unix_socket.bind(str(path))
    unix_socket.listen()
    assert "does not hold its lock" in refusal(path)
    assert path.is_socket()
    assert not path.with_name("vm.ipc.lock").exists()


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    assert "no socket" in refusal(path)
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))
    assert "no socket" in refusal(path)
    assert path.is_symlink()


def test_a_lock_file_that_is_a_link_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious")
    path.with_name("vm.ipc.lock").symlink_to(victim)
    assert "lock file" in refusal(path)
    assert victim.read_text() == "precious"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "lock file" in refusal(tmp_path / "missing" / "vm.ipc")


def test_of_many_that_start_together_one_wins(path: Path) -> None:
    start = threading.Barrier(8)
    won: list[SocketPath] = []

    def contend() -> None:
        start.wait()
        for _ in range(20):
            try:
                won.append(SocketPath(str(path)))
            except VmFailure as ex:
                assert ex.error.code is ErrorCode.HOST_RESOURCE  # noqa: PT017
            else:
                assert len(won) == 1
                won.pop().close()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not won
    assert not list(path.parent.iterdir())


def test_the_descriptor_is_handed_over_once(path: Path) -> None:
    listener = SocketPath(str(path))
    with socket.socket(fileno=listener.detach()) as mine:
        assert mine.getsockname() == str(path)
    with pytest.raises(RuntimeError):
        listener.detach()
    listener.close()
    listener.close()
