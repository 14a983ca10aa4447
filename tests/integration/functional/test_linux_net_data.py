# SPDX-License-Identifier: Apache-2.0
"""Linux's own driver on a tap: what goes through arrives whole, by either way of frames."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.agent_vm import AgentVm, busybox
from tests.support.processes import start_worker

pytestmark = [
    pytest.mark.linux,
    pytest.mark.timeout(1500),
    pytest.mark.usefixtures("network"),
]

HOST, GUEST, MASK = "10.9.0.1", "10.9.0.2", "255.255.255.0"
PORT = 5001
SIZE = 4 << 20
TRANSFER_TIMEOUT = 300.0
"""Seconds. On a slow emulated machine every segment may travel alone: a quarter MiB a second."""


class Server(threading.Thread):
    """Takes one connection: sends what it is given, or keeps the digest of what comes in."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._data = data
        self._listener = socket.create_server((HOST, PORT))
        self.digest = hashlib.md5(usedforsecurity=False)
        self.start()

    def run(self) -> None:
        """Serve."""
        with self._listener, self._listener.accept()[0] as client:
            if self._data:
                client.sendall(self._data)
                client.shutdown(socket.SHUT_WR)  # which busybox's nc takes for the end of both
            while received := client.recv(1 << 20):
                self.digest.update(received)


@pytest.mark.parametrize("queues", [2, 4])
@pytest.mark.parametrize("vhost", [True, False], ids=["vhost", "ours"])
def test_data_arrives_whole(tmp_path: Path, vhost: bool, queues: int) -> None:
    net = {"tap": "t0", "ip": HOST, "mask": MASK, "vhost": vhost, "num_queues": queues}
    with (
        start_worker(tmp_path) as worker,
        AgentVm(worker.call, tmp_path, busybox(), vcpus=queues // 2, net=[net]) as vm,
    ):
        vm.boot()
        vm.agent.check(f"ifconfig eth0 {GUEST} netmask {MASK} up")
        assert "0% packet loss" in vm.agent.check(f"ping -c 3 -s 4000 {HOST}")
        subprocess.run(["ping", "-q", "-c", "3", "-s", "4000", GUEST], check=True)

        data = os.urandom(SIZE)
        server = Server(data)
        receive = f"nc {HOST} {PORT} </dev/null | md5sum"
        digest = vm.agent.check(receive, timeout=TRANSFER_TIMEOUT).split()[0]
        server.join()
        assert digest == hashlib.md5(data, usedforsecurity=False).hexdigest()

        server = Server()
        make = f"dd if=/dev/urandom of=/data bs=1M count={SIZE >> 20} && md5sum /data"
        digest = vm.agent.check(make, timeout=TRANSFER_TIMEOUT).splitlines()[-1].split()[0]
        vm.agent.check(f"nc {HOST} {PORT} </data", timeout=TRANSFER_TIMEOUT)
        server.join()
        assert digest == server.digest.hexdigest()
        if not vhost:
            counters = worker.call("vm.counters")["_net0"]
            assert counters["tx_malformed"] == counters["rx_dropped"] == counters["errors"] == 0
            assert min(counters["rx_bytes"], counters["tx_bytes"]) > SIZE
