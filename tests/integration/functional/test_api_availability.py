# SPDX-License-Identifier: Apache-2.0
"""The API while workers are away, silent, slow, or come back."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ipc_protocol.listener import lock_path
from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import SILENCE, ApiProcess, Peer
from tests.support.http import wait_for_socket
from tests.support.processes import DEADLINE, eventually

_LONE_PEER = """
import sys, threading
from pathlib import Path
from tests.support.api import SILENCE, Peer
from ipc_protocol.messages import Operation
peer = Peer(Path(sys.argv[1]))
peer.answers[Operation.VM_BOOT] = lambda _: print("asked", flush=True) or SILENCE
threading.Event().wait()
"""


@pytest.fixture
def server(tmp_path):
    with ApiProcess(tmp_path) as api:
        yield api


@contextlib.contextmanager
def _lone_peer(path):
    """Run a peer in a process of its own, which can be killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = (sys.executable, "-c", _LONE_PEER, str(path))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        wait_for_socket(path)
        yield process
    finally:
        process.kill()
        process.communicate()


def _assert_unavailable(response):
    assert (response.status, response.json["code"]) == (503, "vmm_unavailable")
    assert int(response.headers["retry-after"]) > 0


def test_without_a_worker_it_is_503_until_one_comes_and_when_it_goes(server):
    path = ipc_path(server.runtime_dir, "default")
    with server.http() as http:
        for _ in range(2):
            _assert_unavailable(http.get("/api/v1/vmm.ping"))
            _assert_unavailable(http.put("/api/v1/vm.boot"))
            with Peer(path):
                assert http.get("/api/v1/vmm.ping").status == 200
                assert http.put("/api/v1/vm.boot").status == 204
        _assert_unavailable(http.get("/api/v1/vmm.ping"))
        assert http.connected


def test_a_killed_worker_is_503_at_once_even_in_the_middle_of_a_call(server):
    path = ipc_path(server.runtime_dir, "web-1")
    with server.http(host="web-1") as http:
        with _lone_peer(path) as process, ThreadPoolExecutor(1) as pool:
            boot = pool.submit(http.put, "/api/v1/vm.boot")
            assert process.stdout.readline() == b"asked\n"
            process.send_signal(signal.SIGKILL)
            _assert_unavailable(boot.result(DEADLINE))
        assert path.is_socket(), "what a killed worker leaves behind"
        _assert_unavailable(http.get("/api/v1/vmm.ping"))
        with Peer(path):
            assert http.get("/api/v1/vmm.ping").status == 200
        assert http.get("/api/v1/vmm.ping").json["code"] == "vm_unknown"


def test_a_stopped_worker_is_504_and_its_late_answer_is_nobody_s(tmp_path):
    with ApiProcess(tmp_path, "--timeout", "0.3") as server, server.http() as http:
        late = []

        def answer(incoming):
            late.append(incoming)
            return SILENCE

        with Peer(ipc_path(tmp_path, "default")) as peer:
            peer.answers[Operation.VM_BOOT] = answer
            response = http.put("/api/v1/vm.boot")
            assert (response.status, response.json["code"]) == (504, "vmm_timeout")

            def answer_both(_incoming):
                peer.server.reply(late.pop())
                return SILENCE if late else {"__late": {"is": 1}}

            peer.answers[Operation.VM_COUNTERS] = answer_both
            assert http.get("/api/v1/vm.counters").json == {"__late": {"is": 1}}
            assert http.get("/api/v1/vmm.ping").status == 200


def test_a_worker_that_does_not_even_accept_is_503_or_504(tmp_path):
    with ApiProcess(tmp_path, "--timeout", "0.5") as server:
        path = ipc_path(tmp_path, "default")
        with _lone_peer(path) as process:
            assert server.request("GET", "vmm.ping").status == 200
            process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            assert server.request("GET", "vmm.ping").status in (503, 504)
            assert time.monotonic() - started < DEADLINE
            process.send_signal(signal.SIGCONT)
            eventually(lambda: server.request("GET", "vmm.ping").status == 200, "it recovers")


def test_a_slow_operation_does_not_hold_up_reads_or_other_vms(server):
    with (
        Peer(ipc_path(server.runtime_dir, "default")) as peer,
        Peer(ipc_path(server.runtime_dir, "web-1")),
        ThreadPoolExecutor(1) as pool,
        server.http() as slow,
        server.http() as fast,
    ):
        held = []
        arrived = threading.Event()

        def hold(incoming):
            held.append(incoming)
            arrived.set()
            return SILENCE

        def let_go(_incoming):
            peer.server.reply(held.pop())

        peer.answers[Operation.VM_BOOT] = hold
        peer.answers[Operation.VM_NMI] = let_go
        boot = pool.submit(slow.put, "/api/v1/vm.boot")
        assert arrived.wait(DEADLINE)
        for _ in range(20):
            assert fast.get("/api/v1/vmm.ping").status == 200
            assert fast.get("/api/v1/vmm.ping", headers={"Host": "web-1"}).status == 200
        assert not boot.done()
        assert fast.put("/api/v1/vm.nmi").status == 204
        assert boot.result(DEADLINE).status == 204


def test_a_worker_answers_its_own_shutdown_although_its_socket_is_gone(server):
    peer = Peer(ipc_path(server.runtime_dir, "web-1"))

    def give_the_path_up(_incoming):
        peer.path.unlink()
        lock_path(peer.path).unlink()

    try:
        peer.answers[Operation.VMM_SHUTDOWN] = give_the_path_up
        with server.http(host="web-1") as http:
            assert http.put("/api/v1/vmm.shutdown").status == 204
            assert http.get("/api/v1/vmm.ping").json["code"] == "vm_unknown"
    finally:
        peer.close()


def test_clients_that_stall_are_given_up_and_hold_nobody_up(tmp_path):
    starts = (
        b"GET /api/v1/vmm.ping HT",
        b"PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    )
    with (
        Peer(ipc_path(tmp_path, "default")),
        ApiProcess(tmp_path, "--client-timeout", 0.3, "--threads", 2) as server,
        contextlib.ExitStack() as stack,
    ):

        def connect():
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(DEADLINE)
            client.connect(str(server.socket))
            return client

        silent = [connect() for _ in range(50)]
        stalling = []
        for start in starts * 4:
            stalling.append(connect())
            stalling[-1].sendall(start)
        assert server.request("GET", "vmm.ping").status == 200
        answers = []
        for client in stalling:
            answer = b""
            while part := client.recv(4096):
                answer += part
            answers.append(answer.partition(b"\r\n")[0])
        assert answers == [b"", b"HTTP/1.1 400 Bad Request"] * 4
        for client in silent:
            client.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert "Traceback" not in server.read_log()
