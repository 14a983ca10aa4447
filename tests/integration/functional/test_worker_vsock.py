# SPDX-License-Identifier: Apache-2.0
"""Virtio sockets as a worker has them: the socket from the boot to the shutdown."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import VmState
from tests.support.guests import build
from tests.support.processes import Worker, eventually, vm_config
from tests.support.vsock_guest import read_exactly

pytestmark = pytest.mark.kvm


def config(path: Path) -> dict[str, object]:
    return vm_config(build("vsock"), vsock={"cid": 3, "socket": str(path)})


@contextlib.contextmanager
def client(path: Path, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        peer.sendall(b"CONNECT %d\n" % port)
        yield peer


def echo(path: Path) -> None:
    data = os.urandom(1000)
    with client(path, 7) as peer:
        assert read_exactly(peer, 14).startswith(b"OK ")
        peer.sendall(data)
        assert read_exactly(peer, len(data)) == data


def test_the_socket_is_there_from_boot_to_shutdown(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "v"
    worker.call("vm.create", config(path))
    assert not path.exists()
    worker.call("vm.boot")
    echo(path)
    # What was sent is counted after it was sent: the echo may be here first.
    eventually(lambda: worker.call("vm.counters")["_vsock0"]["tx_bytes"] == 1000, "1000 bytes")
    counters = worker.call("vm.counters")["_vsock0"]
    assert (counters["connections_total"], counters["rx_bytes"]) == (1, 1000)

    inode = path.stat().st_ino
    worker.call("vm.reboot")
    echo(path)  # its greeting waits until the guest has booted
    assert path.stat().st_ino == inode

    worker.call("vm.pause")
    worker.call("vm.resume")
    echo(path)
    with client(path, 0):  # powers it off
        worker.wait_for(state=VmState.SHUTDOWN)
    assert not path.exists()
    worker.call("vm.boot")
    echo(path)
    worker.call("vm.shutdown")
    assert not path.exists()


def test_a_socket_in_use_is_named(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "v"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        worker.call("vm.create", config(path))
        error = worker.error("vm.boot")
        assert error.code is ErrorCode.HOST_RESOURCE
        assert [field.pointer for field in error.fields] == ["/vsock/socket"]
        assert str(path) in error.message
    worker.call("vm.boot")  # what the dead listener left is in nobody's way
    echo(path)
