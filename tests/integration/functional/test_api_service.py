# SPDX-License-Identifier: Apache-2.0
"""``velum-api`` under a service manager: its sockets, what it tells, restarts and sudden ends."""

import contextlib
import http.client
import os
import signal
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer
from tests.support.http import UnixHTTP, wait_for_socket
from tests.support.manager import Notifications, listening
from tests.support.processes import DEADLINE, eventually
from tests.support.waiting import wait_until

PING = "/api/v1/vmm.ping"


@pytest.fixture
def peer(tmp_path):
    with Peer(ipc_path(tmp_path, "default")) as peer:
        yield peer


@pytest.fixture
def manager(tmp_path):
    notifications = Notifications(tmp_path / "notify")
    yield notifications
    notifications.close()


@pytest.fixture
def sockets(tmp_path):
    with listening({"api": tmp_path / "api.sock"}) as sockets:
        yield sockets


def _serving(api):
    path = Path(f"/proc/{api.pid}/task/{api.pid}/children")

    def child():
        return [int(pid) for pid in path.read_text().split()]

    (pid,) = eventually(child, "a process serves")
    return pid


class Clients:
    """Clients that ask again and again, each the next thing when it has its answer."""

    def __init__(self, path, number):
        self.failures = [0] * number
        self.answers = [0] * number
        self._path = path
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(number)
        self._done = [self._pool.submit(self._ask, index) for index in range(number)]

    def _ask(self, index):
        with UnixHTTP(self._path) as api:
            while not self._over.is_set():
                if index % 2:
                    api.close()  # a connection for each request
                try:
                    assert api.get(PING).status == 200
                    self.answers[index] += 1
                except (OSError, http.client.HTTPException):
                    self.failures[index] += 1
                    api.close()

    def wait_for_answers(self):
        """Wait until each has had another two."""
        before = list(self.answers)
        wait_until(
            lambda: all(now > was + 1 for now, was in zip(self.answers, before, strict=True)),
            DEADLINE,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        for each in self._done:
            each.result(DEADLINE)
        self._pool.shutdown()


def test_sockets_of_the_manager_are_served_and_left_as_they_are(tmp_path, peer):
    paths = {name: tmp_path / f"{name}.sock" for name in ("api", "metrics", "pin-default")}
    with listening(paths) as sockets:
        paths["api"].chmod(0o600)
        for _ in range(2):
            with ApiProcess(tmp_path, sockets=sockets) as api:
                for name, target in (("api", PING), ("metrics", "/metrics"), ("pin-default", PING)):
                    with UnixHTTP(paths[name], host="localhost") as http:
                        assert http.get(target).status == 200
                with UnixHTTP(paths["metrics"]) as http:
                    assert http.get(PING).status == 404
                with UnixHTTP(paths["pin-default"], host="other") as http:
                    assert http.get(PING).status == 200
                assert api.stop() == 0
            assert all(path.is_socket() for path in paths.values())
            assert stat.S_IMODE(paths["api"].stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.lock"))
    assert len(peer.received) == 8  # the metrics ask for some as well


def test_its_own_socket_goes_and_the_managers_stays(tmp_path, sockets):
    own = tmp_path / "own.sock"
    with ApiProcess(tmp_path, "--metrics-socket", own, sockets=sockets) as api:
        wait_for_socket(own)
        with UnixHTTP(own) as http:
            assert http.get("/metrics").status == 200
        assert api.stop() == 0
    assert not own.exists()
    assert api.socket.exists()


def test_a_socket_for_nothing_is_refused_in_one_line(tmp_path):
    with (
        listening({"spare": tmp_path / "spare.sock"}) as sockets,
        ApiProcess(tmp_path, ready=False, sockets=sockets) as api,
    ):
        assert api.wait() == 1
        assert api.read_log().startswith("velum-api: the socket 'spare'")
        assert len(api.read_log().splitlines()) == 1


def test_a_restart_costs_nobody_a_request(tmp_path, peer, sockets):
    del peer
    api = ApiProcess(tmp_path, sockets=sockets)
    with Clients(api.socket, 6) as clients:
        for _ in range(3):
            clients.wait_for_answers()
            assert api.stop() == 0
            api = ApiProcess(tmp_path, sockets=sockets)
        clients.wait_for_answers()
    api.stop()
    assert clients.failures == [0] * 6


@pytest.mark.parametrize("victim", ["main", "serving", "both"])
def test_a_sudden_end_costs_each_client_one_request(victim, tmp_path, peer, sockets):
    del peer
    api = ApiProcess(tmp_path, sockets=sockets)
    with Clients(api.socket, 6) as clients:
        clients.wait_for_answers()
        child = _serving(api)
        if victim != "serving":
            api.stop(signal.SIGKILL)
        if victim != "main":
            with contextlib.suppress(ProcessLookupError):  # it ends with its parent
                os.kill(child, signal.SIGKILL)
        if victim != "serving":
            api = ApiProcess(tmp_path, sockets=sockets)
        clients.wait_for_answers()
    api.stop()
    assert max(clients.failures) <= 1


def test_who_comes_between_two_servers_is_served_by_the_next(tmp_path, peer, sockets):
    with ApiProcess(tmp_path, sockets=sockets) as api:
        assert api.request("GET", "vmm.ping").status == 200

        def answer_late(_incoming):
            api.process.terminate()
            waiting.connect(str(api.socket))
            waiting.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n")

        peer.answers[Operation.VM_BOOT] = answer_late
        with socket.socket(socket.AF_UNIX) as waiting, api.http() as http:
            assert http.put("/api/v1/vm.boot").status == 204
            assert api.wait() == 0
            with ApiProcess(tmp_path, sockets=sockets):
                waiting.settimeout(DEADLINE)
                assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_ends_so_that_nothing_can_be_sent_in_vain(tmp_path, peer, sockets):
    del peer
    with ApiProcess(tmp_path, sockets=sockets) as api, socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(api.socket))
        idle.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert api.stop() == 0
        with pytest.raises(BrokenPipeError):
            idle.sendall(b"PUT /api/v1/vm.boot HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_it_tells_when_it_serves_how_it_is_and_when_it_ends(tmp_path, manager):
    with ApiProcess(tmp_path, environment=manager.environment()) as api:
        status = manager.wait_for("STATUS", f"serving {api.socket}")
        assert "0 event streams" in status
        with api.http() as http:
            assert http.get("/nowhere").status == 404
            manager.wait_for("STATUS", "1 connection,")
        assert api.stop() == 0
        manager.wait_for("STOPPING")
    assert set(manager.values("READY")) == {"1"}
    assert manager.values("WATCHDOG") == []


def test_what_the_manager_missed_it_is_told_again(tmp_path, manager):
    manager.close()
    with ApiProcess(tmp_path, environment=manager.environment()) as api:
        assert api.request("GET", "nowhere").status == 404
        manager.path.unlink()
        with contextlib.closing(Notifications(manager.path)) as attentive:
            attentive.wait_for("READY", "1")
            attentive.wait_for("STATUS", f"serving {api.socket}")


def test_a_serving_process_that_hangs_is_replaced_under_a_watchdog(tmp_path, manager):
    environment = manager.environment(WATCHDOG_USEC=8_000_000)
    with ApiProcess(tmp_path, environment=environment) as api:
        manager.wait_for("WATCHDOG", "1")
        child = _serving(api)
        os.kill(child, signal.SIGSTOP)
        try:
            eventually(lambda: not Path(f"/proc/{child}").exists(), "it is ended")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert api.request("GET", "nowhere").status == 404
        manager.wait_for("WATCHDOG", "1", beyond=len(manager.values("WATCHDOG")))
        assert "TIMEOUT" in api.read_log()
