# SPDX-License-Identifier: Apache-2.0
"""The life of the ``velum-api`` process: start, signals, death, what it leaves behind."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import SILENCE, ApiProcess, Peer
from tests.support.http import UnixHTTP
from tests.support.processes import DEADLINE, eventually

_NOBODY = 65534


def _children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def _serving(api):
    """Return the process that serves, as soon as there is one that does."""

    def child():
        try:
            assert api.request("GET", "nowhere").status == 404
        except OSError:
            return None
        (pid,) = _children(api.pid)
        return pid

    return eventually(child, "the API serves")


def _wait_for_end(pid):
    def ended():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state == "Z"

    eventually(ended, f"process {pid} ends")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_and_leaves_nothing_behind(number, tmp_path):
    with ApiProcess(tmp_path) as api, api.http() as http:
        assert http.get("/nowhere").status == 404
        child = _serving(api)
        api.process.send_signal(number)
        assert api.wait() == 0
        _wait_for_end(child)
        assert list(tmp_path.iterdir()) == []
        assert "Traceback" not in api.read_log()


def test_a_request_under_way_delays_the_end_for_a_bounded_time(tmp_path):
    with (
        Peer(ipc_path(tmp_path, "default")) as peer,
        ApiProcess(tmp_path) as api,
        ThreadPoolExecutor(1) as pool,
        api.http() as http,
    ):
        arrived = threading.Event()

        def hold(_incoming):
            arrived.set()
            return SILENCE

        peer.answers[Operation.VM_BOOT] = hold
        boot = pool.submit(http.put, "/api/v1/vm.boot")
        assert arrived.wait(DEADLINE)
        started = time.monotonic()
        api.process.terminate()
        api.wait()
        assert time.monotonic() - started < 12
        assert boot.exception(DEADLINE) is not None
        assert not api.socket.exists()


def test_a_request_under_way_is_answered_before_the_end(tmp_path):
    with (
        Peer(ipc_path(tmp_path, "default")) as peer,
        ApiProcess(tmp_path) as api,
        api.http() as http,
    ):

        def answer_late(_incoming):
            api.process.terminate()
            eventually(lambda: not api.socket.exists(), "the API stops listening")

        peer.answers[Operation.VM_BOOT] = answer_late
        assert http.put("/api/v1/vm.boot").status == 204
        assert api.wait() == 0


@pytest.mark.parametrize("victim", ["parent", "both"])
def test_after_kill_9_a_new_one_takes_over_the_stale_socket_at_once(victim, tmp_path):
    with ApiProcess(tmp_path) as api, Peer(ipc_path(tmp_path, "default")):
        child = _serving(api)
        if victim == "both":
            os.kill(child, signal.SIGSTOP)
            os.kill(child, signal.SIGKILL)
        api.process.kill()
        api.wait()
        assert api.socket.exists()
        with ApiProcess(tmp_path, ready=False) as successor:
            _serving(successor)
            assert successor.request("GET", "vmm.ping").status == 200
        _wait_for_end(child)


def test_the_serving_process_is_replaced_when_it_is_killed(tmp_path):
    with ApiProcess(tmp_path) as api, Peer(ipc_path(tmp_path, "default")):
        child = _serving(api)
        assert api.request("GET", "vmm.ping").status == 200
        os.kill(child, signal.SIGKILL)
        _wait_for_end(child)
        eventually(lambda: set(_children(api.pid)) - {child}, "another process serves")
        assert _serving(api) != child
        assert api.request("GET", "vmm.ping").status == 200


def test_a_live_socket_is_refused_by_name(tmp_path):
    with ApiProcess(tmp_path) as api, ApiProcess(tmp_path, ready=False) as second:
        assert second.wait() == 1
        assert second.read_log().startswith(f"velum-api: cannot listen at {api.socket}")
        assert len(second.read_log().splitlines()) == 1
        assert api.request("GET", "nowhere").status == 404


def test_what_is_not_its_socket_is_left_alone(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with ApiProcess(tmp_path, ready=False) as api:
        assert api.wait() == 1
        assert str(path) in api.read_log()
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with ApiProcess(tmp_path, ready=False) as api:
            assert api.wait() == 1
            assert str(path) in api.read_log()
        assert path.is_socket()


def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path):
    with ApiProcess(tmp_path / "missing", ready=False) as api:
        assert api.wait() == 1
        assert "No such file or directory" in api.read_log()
        assert "Traceback" not in api.read_log()


def test_only_owner_and_group_may_connect(tmp_path):
    with ApiProcess(tmp_path, umask=0) as api:
        assert stat.S_IMODE(api.socket.stat().st_mode) == 0o660
    with ApiProcess(tmp_path, umask=0o777) as api:
        assert stat.S_IMODE(api.socket.stat().st_mode) == 0o660


@pytest.mark.parametrize("arguments", [("--vm", "web-1"), ("--ipc", "{}/web-1/vmm.ipc")])
def test_a_pinned_server_takes_any_host(arguments, tmp_path):
    arguments = [argument.format(tmp_path) for argument in arguments]
    with Peer(ipc_path(tmp_path, "web-1")) as peer, ApiProcess(tmp_path, *arguments) as api:
        for host in ("localhost", "", "other", "%2Frun%2Fvelum%2Fapi.sock", "../.."):
            with api.http() as http:
                assert http.get("/api/v1/vmm.ping", headers={"Host": host}).status == 200
        assert len(peer.received) == 5


def test_one_server_has_sockets_pinned_to_vms_beside_its_own(tmp_path):
    names = ("web-1", "web-2")
    pins = [argument for name in names for argument in ("--pin", f"{name}={tmp_path}/{name}.sock")]
    with ApiProcess(tmp_path, *pins) as api, Peer(ipc_path(tmp_path, "web-1")) as first:
        with Peer(ipc_path(tmp_path, "web-2")) as second:
            for peer in (first, second):
                for host in ("localhost", "other", "%2Frun%2Fvelum%2Fapi.sock", "../.."):
                    with UnixHTTP(peer.path.parent.with_suffix(".sock"), host=host) as http:
                        assert http.get("/api/v1/vmm.ping").status == 200
                assert len(peer.received) == 4
            with api.http(host="web-2") as http:
                assert http.get("/api/v1/vmm.ping").status == 200
                assert http.get("/api/v1/vmm.ping", headers={"Host": "other"}).status == 404
            assert (len(first.received), len(second.received)) == (4, 5)
        with UnixHTTP(tmp_path / "web-2.sock") as http:
            assert http.get("/api/v1/vmm.ping").status == 503
        api.stop()
        assert [path.name for path in tmp_path.glob("*.sock*")] == []


def test_the_default_vm_is_configurable(tmp_path):
    with Peer(ipc_path(tmp_path, "web-1")), ApiProcess(tmp_path, "--default-vm", "web-1") as api:
        assert api.request("GET", "vmm.ping").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_it_needs_no_privilege_and_writes_only_beside_its_socket():
    # Not below tmp_path, which only root may enter.
    root = Path(tempfile.mkdtemp(prefix="velum-api-"))
    directory = root / "run"
    try:
        root.chmod(0o755)
        directory.mkdir(mode=0o700)
        os.chown(directory, _NOBODY, _NOBODY)
        unprivileged = {"user": _NOBODY, "group": _NOBODY, "extra_groups": (), "cwd": "/"}
        with Peer(ipc_path(directory, "default"), users=[_NOBODY]) as peer:
            os.chown(peer.path, _NOBODY, _NOBODY)
            os.chown(peer.path.parent, _NOBODY, _NOBODY)
            with ApiProcess(directory, **unprivileged) as api:
                assert api.request("GET", "vmm.ping").status == 200
                status = Path(f"/proc/{_serving(api)}/status").read_text()
                assert f"Uid:\t{_NOBODY}\t" in status
                names = {path.name for path in directory.iterdir()}
                assert names == {"api.sock", "api.sock.lock", "default"}
    finally:
        shutil.rmtree(root)


def test_it_keeps_within_its_memory(tmp_path):
    with Peer(ipc_path(tmp_path, "default")), ApiProcess(tmp_path) as api:
        with ThreadPoolExecutor(8) as pool:
            for response in pool.map(lambda _: api.request("GET", "vmm.ping"), range(64)):
                assert response.status == 200
        kilobytes = 0
        for pid in (api.pid, _serving(api)):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kilobytes += next(int(x.split()[1]) for x in rollup.splitlines() if x[:4] == "Pss:")
        assert kilobytes < 60 << 10


def test_the_command_line_explains_itself():
    command = (sys.executable, "-m", "api_server", "--help")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert result.stdout.startswith("usage: velum-api ")
