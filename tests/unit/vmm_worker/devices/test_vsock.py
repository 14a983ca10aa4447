# SPDX-License-Identifier: Apache-2.0
"""The listener of the socket device, with real sockets."""

from __future__ import annotations

import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.config_devices import VsockConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.devices.vsock import Vsock


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def descriptors() -> set[str]:
    return {fd.name for fd in Path("/proc/self/fd").iterdir()}


def failure(path: Path) -> VmFailure:
    before = descriptors()
    with pytest.raises(VmFailure) as caught:
        Vsock("_vsock0", VsockConfig(cid=3, socket=str(path)))
    assert descriptors() == before
    assert [field.pointer for field in caught.value.error.fields] == ["/vsock/socket"]
    return caught.value


def test_clients_may_come_from_the_start_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vsock = Vsock("_vsock0", VsockConfig(cid=3, socket=str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    vsock.close()
    vsock.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    Vsock("_vsock0", VsockConfig(cid=3, socket=str(path))).close()


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    vsock = Vsock("_vsock0", VsockConfig(cid=3, socket=str(path)))
    assert failure(path).error.code is ErrorCode.HOST_RESOURCE
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    vsock.close()


def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_text("precious")
    assert "no socket" in failure(path).error.message
    assert path.read_text() == "precious"


def test_there_are_descriptors_for_many_connections(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    Vsock("_vsock0", VsockConfig(cid=3, socket=str(tmp_path / "v"))).close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
