# SPDX-License-Identifier: Apache-2.0
"""The API and a real worker: two processes, one VM, and each survives the other's death."""

import re
import signal

import pytest

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import eventually, start_worker, vm_config


@pytest.fixture
def api(tmp_path):
    with ApiProcess(tmp_path) as api:
        yield api


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """An API with a worker, for tests that leave no VM behind."""
    directory = tmp_path_factory.mktemp("idle")
    with start_worker(directory), ApiProcess(directory) as api:
        yield api


def _done(api, *names):
    for name in names:
        response = api.request("PUT", name)
        assert (response.status, response.body) == (204, b""), (name, response.body)


def _refused(api, name, body=None):
    response = api.request("PUT", name, body)
    assert response.headers["content-type"] == "application/problem+json"
    return response.status, response.json["code"]


def _state(api):
    return api.request("GET", "vm.info").json["state"]


def _count(console):
    counts = re.findall(r"count (\d+)\n", console.read_text())
    return int(counts[-1]) if counts else 0


def test_without_a_vm(api, worker):
    ping = api.request("GET", "vmm.ping")
    assert (ping.status, ping.json["pid"]) == (200, worker.pid)
    assert api.request("GET", "vm.info").json["code"] == "vm_not_created"
    assert api.request("GET", "vm.info").status == 404
    assert _refused(api, "vm.boot") == (404, "vm_not_created")
    _done(api, "vm.delete", "vmm.shutdown")
    worker.wait()
    assert api.request("GET", "vmm.ping").status == 503


def test_a_configuration_is_stored_and_shown(idle):
    api = idle
    config = vm_config("/nowhere/vmlinuz", serial={"mode": "Null"})
    assert api.request("PUT", "vm.create", config).status == 204
    assert _refused(api, "vm.create", config) == (409, "vm_already_created")
    info = api.request("GET", "vm.info").json
    assert info["state"] == "Created"
    assert info["memory_actual_size"] == 16 << 20
    assert info["config"]["payload"] == {"kernel": "/nowhere/vmlinuz"}
    assert info["config"]["cpus"]["boot_vcpus"] == 1
    assert _refused(api, "vm.pause") == (409, "vm_not_running")
    _done(api, "vm.delete")


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"cpus": {"boot_vcpus": 0, "max_vcpus": 0}}, 400, "/cpus/boot_vcpus"),
        ({"memory": {"size": 4097}}, 400, "/memory/size"),
        ({"memory": {"size": "much"}}, 400, "/memory/size"),
        ({"payload": {"kernel": "/k" * 50_000}}, 400, "/payload/kernel"),
        ({"payload": {"kernel": "/k", "cmdline": "x" * (3 << 20)}}, 400, "/payload/cmdline"),
        ({"misspelt": 1}, 400, "/misspelt"),
        ({"disks": [{"path": "/d", "num_queues": 2}]}, 400, "/disks/0/num_queues"),
        ({"disks": [{"path": "/d", "image_type": "Qcow2"}]}, 501, "/disks/0/image_type"),
        ({"disks": [{"path": "/d", "id": "a"}], "rng": {"id": "a"}}, 409, "/rng/id"),
        ({"fs": [{"tag": "t", "socket": "/s"}]}, 501, "/fs"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_by_field(change, status, pointer, idle):
    api = idle
    response = api.request("PUT", "vm.create", {**vm_config("/k"), **change})
    assert response.status == status
    assert pointer in {error["pointer"] for error in response.json["errors"]}
    assert len(response.body) < 4096
    assert api.request("GET", "vm.info").status == 404


def test_what_this_host_cannot_do_is_422(tmp_path, api):
    with start_worker(tmp_path, "--kvm", "/nowhere/kvm"):
        assert api.request("PUT", "vm.create", vm_config(build("hello"))).status == 204
        assert _refused(api, "vm.boot") == (422, "kvm_unavailable")
        assert _state(api) == "Created"


@pytest.mark.kvm
def test_the_life_of_a_vm(tmp_path, api, worker):
    console = tmp_path / "console"
    serial = {"mode": "File", "file": str(console)}
    config = vm_config("/nowhere", serial=serial)
    assert api.request("PUT", "vm.create", config).status == 204
    assert _refused(api, "vm.boot") == (422, "file_unavailable")
    _done(api, "vm.delete")
    assert api.request("PUT", "vm.create", vm_config(build("count"), serial=serial)).status == 204
    for _ in range(2):
        _done(api, "vm.boot")
        assert _state(api) == "Running"
        assert _refused(api, "vm.boot") == (409, "vm_already_running")
        eventually(lambda: _count(console), "the guest counts")
        _done(api, "vm.pause")
        assert _state(api) == "Paused"
        assert _refused(api, "vm.pause") == (409, "vm_already_paused")
        counters = api.request("GET", "vm.counters").json
        assert counters["__serial"]
        _done(api, "vm.resume", "vm.reboot", "vm.power-button", "vm.shutdown")
        assert _state(api) == "Created"
    _done(api, "vm.boot", "vm.delete")
    assert api.request("GET", "vm.info").status == 404
    _done(api, "vmm.shutdown")
    assert worker.wait() == 0


@pytest.mark.kvm
@pytest.mark.usefixtures("worker")
def test_the_guest_counts_on_while_the_api_is_killed(tmp_path):
    console = tmp_path / "console"
    config = vm_config(build("count"), serial={"mode": "File", "file": str(console)})
    with ApiProcess(tmp_path) as api:
        assert api.request("PUT", "vm.create", config).status == 204
        _done(api, "vm.boot")
        count = eventually(lambda: _count(console), "the guest counts")
        api.stop(signal.SIGKILL)
    eventually(lambda: _count(console) > count, "the guest counts on")
    with ApiProcess(tmp_path) as api:
        info = api.request("GET", "vm.info").json
        assert (info["state"], info["boots"]) == ("Running", 1)
        _done(api, "vm.pause", "vm.resume", "vm.shutdown")


@pytest.mark.kvm
def test_the_api_serves_on_while_the_worker_is_killed(tmp_path, api):
    with start_worker(tmp_path) as worker:
        assert api.request("PUT", "vm.create", vm_config(build("hello"))).status == 204
        _done(api, "vm.boot")
        worker.stop(signal.SIGKILL)
        for name in ("vm.info", "vmm.ping"):
            response = api.request("GET", name)
            assert (response.status, response.json["code"]) == (503, "vmm_unavailable")
            assert response.headers["retry-after"]
    with start_worker(tmp_path):
        assert api.request("GET", "vmm.ping").status == 200
        assert api.request("GET", "vm.info").status == 404
