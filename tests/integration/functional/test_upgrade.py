# SPDX-License-Identifier: Apache-2.0
"""This release beside the one before it: an API of either with a worker of the other."""

import re
from pathlib import Path

import pytest

from ipc_protocol.names import ipc_path
from ipc_protocol.version import PREVIOUS_VERSION, PROTOCOL_VERSION
from tests.support.api import ApiProcess
from tests.support.events import EventStream
from tests.support.guests import build
from tests.support.http import UnixHTTP
from tests.support.previous import is_known, previous_environment
from tests.support.processes import Worker, eventually, start_worker, vm_config

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(
        not is_known(), reason="needs git, and a clone with the commits before this one"
    ),
]


@pytest.fixture(scope="module")
def previous():
    """Return what makes a process one of the previous release."""
    return previous_environment()


def _old_worker(directory, previous):
    ipc = ipc_path(directory, "default")
    ipc.parent.mkdir(exist_ok=True)
    arguments = ("--ipc", ipc, "--shutdown-timeout", 0)
    worker = Worker(ipc, *arguments, log=directory / "old.log", environment=previous)
    worker.wait_until_ready()
    return worker


def _is_of(process, environment):
    """Check that a process runs the code that it is to run, and not ours."""
    folder = environment["PYTHONPATH"].split(":")[0].rpartition("/")[0]
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    return f"{folder}/native/" in maps


def _live(api, tmp_path):
    """Have a VM live its life over an API, whoever does it."""
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    with EventStream(api.socket).begin() as events, UnixHTTP(api.socket) as http:

        def done(name, body=None):
            response = http.put(f"/api/v1/{name}", body)
            assert response.status == 204, (name, response.body)

        done("vm.create", vm_config(build("count"), serial=serial))
        assert http.put("/api/v1/vm.create", vm_config("/k")).json["code"] == "vm_already_created"
        done("vm.boot")
        eventually(lambda: "count 3" in console.read_text(), "the guest counts")
        info = http.get("/api/v1/vm.info").json
        assert (info["state"], info["memory_actual_size"]) == ("Running", 16 << 20)
        done("vm.pause")
        done("vm.resume")
        assert http.put("/api/v1/vm.resume").json["code"] == "vm_not_paused"
        assert http.get("/api/v1/vm.counters").status == 200
        jobs = http.get("/api/v1/vmm.jobs").json
        assert {job["state"] for job in jobs} == {"Succeeded", "Failed"}
        metrics = http.get("/metrics").body.decode()
        assert re.search(r'^velum_worker_up\{vm="[^"]+"\} 1\.0$', metrics, re.MULTILINE)
        response = http.put("/api/v1/vm.reboot", headers={"Prefer": "respond-async"})
        assert (response.status, response.json["operation"]) == (202, "vm.reboot")
        done("vm.shutdown")
        done("vm.delete")
        told = {event.name for event in events.until("vm.deleted")}
        assert {"vm.booted", "vm.paused", "vm.resumed"} <= told


def test_an_api_of_this_release_with_a_worker_of_the_one_before(tmp_path, previous):
    with ApiProcess(tmp_path) as api:
        with _old_worker(tmp_path, previous) as worker:
            assert _is_of(worker, previous)
            assert api.request("GET", "vmm.ping").json["protocol"] == PREVIOUS_VERSION
            _live(api, tmp_path)
        with start_worker(tmp_path):
            assert api.request("GET", "vmm.ping").json["protocol"] == PROTOCOL_VERSION
            _live(api, tmp_path)


def test_an_api_of_the_release_before_with_a_worker_of_this_one(tmp_path, previous):
    pinned = ("--ipc", ipc_path(tmp_path, "default"))
    with (
        start_worker(tmp_path) as worker,
        ApiProcess(tmp_path, *pinned, environment=previous) as api,
    ):
        assert not _is_of(worker, previous)
        with UnixHTTP(api.socket) as http:
            ping = http.get("/api/v1/vmm.ping")
            assert (ping.status, "protocol" in ping.json) == (200, False)
        _live(api, tmp_path)


def test_what_the_release_before_cannot_do_is_refused_with_the_way_out(tmp_path, previous):
    with ApiProcess(tmp_path) as api, _old_worker(tmp_path, previous):
        config = vm_config("/k", landlock_enable=True)
        refusal = api.request("PUT", "vm.create", config)
        assert (refusal.status, refusal.json["code"]) == (501, "not_supported")
        assert [each["pointer"] for each in refusal.json["errors"]] == ["/landlock_enable"]
        assert "restart the worker" in refusal.json["detail"]
        assert api.request("GET", "vm.info").json["code"] == "vm_not_created"
