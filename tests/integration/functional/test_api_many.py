# SPDX-License-Identifier: Apache-2.0
"""Many VMs behind one API: each gets its own requests, whatever another one does."""

import contextlib
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, VmError
from ipc_protocol.messages import Operation, VmInfo, VmmPing, VmState
from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer
from tests.support.processes import DEADLINE, eventually, start_worker, vm_config

_VMS = 50
_THREADS = 32


class _Vm(Peer):
    """A peer whose every answer says which VM it is, and who remembers what it was asked."""

    def __init__(self, directory, name):
        super().__init__(ipc_path(directory, name))
        self.name = name
        payload = {"kernel": "/k", "cmdline": name}
        config = msgspec.convert({"payload": payload}, VmConfig)
        info = VmInfo(config=config, state=VmState.RUNNING, memory_actual_size=0)
        ping = VmmPing(build_version=name, version="1", pid=7, features=())
        self.answers[Operation.VM_INFO] = lambda _: info
        self.answers[Operation.VMM_PING] = lambda _: ping
        self.answers[Operation.VM_PAUSE] = lambda _: VmError(
            code=ErrorCode.VM_NOT_RUNNING, message=name
        )


@pytest.fixture
def vms(tmp_path):
    with contextlib.ExitStack() as stack:
        names = [f"vm-{number:02}" for number in range(_VMS)]
        yield {name: stack.enter_context(_Vm(tmp_path, name)) for name in names}


def _told(http, name):
    """Ask a VM three things, and return the name that each answer has in it."""
    headers = {"Host": name}
    info = http.get("/api/v1/vm.info", headers=headers).json
    ping = http.get("/api/v1/vmm.ping", headers=headers).json
    pause = http.put("/api/v1/vm.pause", headers=headers).json
    return [info["config"]["payload"]["cmdline"], ping["build_version"], pause["detail"]]


def _states(http):
    return {each["name"]: each["state"] for each in http.get("/api/v1/vmm.list").json}


def test_concurrent_calls_of_fifty_vms_never_meet(tmp_path, vms):
    calls = 40

    def client(seed):
        chosen = random.Random(seed)
        with server.http() as http:
            for name in chosen.choices(list(vms), k=calls):
                assert _told(http, name) == [name] * 3
        return calls

    with ApiProcess(tmp_path) as server, ThreadPoolExecutor(16) as pool:
        total = sum(pool.map(client, range(16)))
    assert sum(len(vm.received) for vm in vms.values()) == 3 * total


def test_all_of_fifty_are_listed_in_order(tmp_path, vms):
    expected = [{"name": name, "state": "Running", "pid": 7} for name in vms]
    with ApiProcess(tmp_path) as server:
        # On a machine at its limits one may not answer in time the first time.
        eventually(lambda: server.request("GET", "vmm.list").json == expected, "all answer")


def test_one_that_hangs_keeps_no_other_waiting_however_many_call_it(tmp_path, vms):
    """More callers than there are threads: without shares none would be left for others."""
    hung = vms["vm-07"]
    hangs, go_on = threading.Event(), threading.Event()

    def hang(_incoming):
        hangs.set()
        assert go_on.wait(2 * DEADLINE)

    hung.answers[Operation.VM_BOOT] = hang

    def boot(_):
        with server.http(host=hung.name, timeout=2 * DEADLINE) as http:
            response = http.put("/api/v1/vm.boot")
            return response.status, response.json["code"] if response.body else None

    with (
        ApiProcess(tmp_path, "--threads", _THREADS) as server,
        ThreadPoolExecutor(2 * _THREADS) as pool,
    ):
        boots = [pool.submit(boot, number) for number in range(2 * _THREADS)]
        try:
            assert hangs.wait(DEADLINE)
            with server.http() as http:
                for name in vms:
                    if name != hung.name:
                        assert _told(http, name) == [name] * 3
                expected = dict.fromkeys(vms, "Running") | {hung.name: "Unresponsive"}
                eventually(lambda: _states(http) == expected, "all others answer")
        finally:
            go_on.set()
        outcomes = [each.result(2 * DEADLINE) for each in boots]
    assert set(outcomes) == {(204, None), (503, "vmm_unavailable")}
    assert outcomes.count((204, None)) <= _THREADS * 7 // 8


def test_a_name_never_leads_out_of_the_runtime_directory(tmp_path):
    inner = tmp_path / "run"
    inner.mkdir()
    with Peer(ipc_path(tmp_path, "outside")) as outside, ApiProcess(inner) as server:
        hosts = ("../outside", "..%2Foutside", "/../outside", "outside.ipc/../../outside", "..")
        for host in hosts:
            with server.http() as http:
                response = http.get("/api/v1/vmm.ping", headers={"Host": host})
            assert (response.status, response.json["code"]) == (404, "vm_unknown")
            target = f"http://{host}/api/v1/vmm.ping"
            with server.http() as http:
                assert http.get(target).status in (400, 404)
    assert outside.received == []


def test_real_workers_are_listed_by_state_and_one_that_is_stopped_as_such(tmp_path):
    with (
        start_worker(tmp_path, name="empty") as empty,
        start_worker(tmp_path, name="made") as made,
        start_worker(tmp_path, name="stopped") as stopped,
        ApiProcess(tmp_path) as server,
    ):
        made.call("vm.create", vm_config("/nowhere"))

        def listed():
            entries = server.request("GET", "vmm.list").json
            return [(each["name"], each["state"], each["pid"]) for each in entries]

        others = [("empty", "NotCreated", empty.pid), ("made", "Created", made.pid)]

        def shows(state):
            return lambda: listed() == [*others, ("stopped", state, stopped.pid)]

        eventually(shows("NotCreated"), "all answer")
        stopped.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                eventually(shows("Unresponsive"), "it does not answer, and the others do")
        finally:
            stopped.process.send_signal(signal.SIGCONT)
        eventually(shows("NotCreated"), "it is back")
        stopped.stop(signal.SIGKILL)
        (_, _, gone) = server.request("GET", "vmm.list").json
        assert (gone["name"], gone["state"]) == ("stopped", "Unavailable")
        assert "start it" in gone["detail"]
