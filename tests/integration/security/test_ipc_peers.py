# SPDX-License-Identifier: Apache-2.0
"""Who may speak to a worker at all, tried by processes of other users."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import DEADLINE, Worker, start_worker
from tests.support.users import connect_as, open_directory

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else"),
]

# Neither has a name: numbers are nobody's on any host.
_API: Final = 54001
_STRANGER: Final = 54002


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that everybody may enter."""
    with open_directory() as place:
        yield place


def _greeting(connection: socket.socket) -> bytes:
    """Return what the worker says first: ten bytes of ZMTP to whom it accepts."""
    with connection:
        connection.settimeout(DEADLINE)
        try:
            return connection.recv(10)
        except ConnectionResetError:
            return b""


def open_to_all(worker: Worker) -> None:
    """Let everybody at the socket's file: what is left is what the worker itself asks."""
    worker.ipc.parent.chmod(0o755)
    worker.ipc.chmod(0o666)


def test_a_worker_accepts_whom_it_was_told_to(place: Path) -> None:
    with start_worker(place, "--ipc-peer", _API) as worker:
        open_to_all(worker)
        assert _greeting(connect_as(worker.ipc, _API)).startswith(b"\xff")
        assert _greeting(connect_as(worker.ipc, _STRANGER)) == b""
        assert _greeting(connect_as(worker.ipc, 0)).startswith(b"\xff")


def test_a_worker_that_was_told_nothing_accepts_its_own_user_and_root(place: Path) -> None:
    with start_worker(place) as worker:
        open_to_all(worker)
        # The group does not help: that a user may open the socket's file is not enough.
        assert _greeting(connect_as(worker.ipc, _STRANGER, gid=os.getegid())) == b""
        assert worker.call("vmm.ping").pid == worker.pid
