# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket

import pytest

from service_manager.notify import notify, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """Return a socket where notifications arrive, as a manager has one."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@velum-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_fields_come_as_lines_of_one_datagram(manager):
    assert notify(READY=1, STATUS="serving", EXTEND_TIMEOUT_USEC=5_000_000)
    assert manager.recv(4096) == b"READY=1\nSTATUS=serving\nEXTEND_TIMEOUT_USEC=5000000"


def test_no_value_becomes_a_field(manager):
    assert notify(STATUS="one\nREADY=1\n two")
    assert manager.recv(4096) == b"STATUS=one READY=1 two"


def test_without_a_manager_nobody_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify(READY=1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_of_this_process_or_not_at_all(monkeypatch, environment, seconds):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds
