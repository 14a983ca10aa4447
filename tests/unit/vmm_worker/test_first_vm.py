# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ipc_protocol.config import PayloadConfig, VmConfig
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.server import Incoming, Server
from vmm_worker.first_vm import FirstVm, Wish

CONFIG = VmConfig(payload=PayloadConfig(kernel="/k"))
CALLERS_PATIENCE = 0.1
"""Seconds, in place of those that a caller of the API waits."""


def next_request(server: Server) -> Incoming:
    while (incoming := server.receive()) is None:
        assert server.socket.poll(10_000), "nothing more is asked of the worker"
    return incoming


def test_a_busy_host_has_time_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (Operation.VM_CREATE, Operation.VM_BOOT)
    for step in steps:
        short = SIGNATURES[step]._replace(timeout=CALLERS_PATIENCE)
        monkeypatch.setitem(SIGNATURES, step, short)
    done = threading.Event()
    with Server(tmp_path / "vm.ipc") as server:
        first = FirstVm(tmp_path / "vm.ipc", Wish(CONFIG), done.set)
        first.start()
        for step in steps:
            incoming = next_request(server)
            assert incoming.operation is step
            time.sleep(4 * CALLERS_PATIENCE)
            server.reply(incoming, None)
        first.join(10)
    assert not first.is_alive()
    assert first.error is None
    assert done.is_set()
