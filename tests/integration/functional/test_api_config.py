# SPDX-License-Identifier: Apache-2.0
"""What a VM is made of, over HTTP: the whole document, its edits, and what is found out early."""

import pytest

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import make_file, start_worker, vm_config
from tests.support.whole_config import whole_document

MIB = 1 << 20
MAC = "52:54:00:12:34:56"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiProcess(tmp_path_factory.mktemp("config")) as api:
        yield api


@pytest.fixture
def api(server):
    with start_worker(server.runtime_dir):
        yield server


@pytest.fixture
def created(api):
    assert api.request("PUT", "vm.create", vm_config("/nowhere/vmlinuz")).status == 204
    return api


def shown(api):
    """Return the configuration as vm.info shows it."""
    response = api.request("GET", "vm.info")
    assert response.status == 200
    return response.json["config"]


def refused(response, status, code):
    """Check a refusal, and return what it says of each field."""
    assert (response.status, response.json["code"]) == (status, code), response.json
    return {each["pointer"]: each["message"] for each in response.json["errors"]}


def test_a_client_that_spells_every_default_out_is_served(api, tmp_path):
    document = whole_document("/k", "/d", "/p", str(tmp_path / "vsock"))
    assert api.request("PUT", "vm.create", document).status == 204
    config = shown(api)
    assert config["cpus"]["core_scheduling"] == "Vm"
    assert config["cpus"]["affinity"] == [{"vcpu": 0, "host_cpus": [0]}]
    assert [config["disks"][0]["id"], config["net"][0]["id"]] == ["_disk0", "_net1"]
    assert config["rng"]["id"] == "__rng"


def test_what_is_shown_can_be_given_again(created):
    created.request("PUT", "vm.add-net", {})
    first = shown(created)
    assert created.request("PUT", "vm.delete").status == 204
    assert created.request("PUT", "vm.create", first).status == 204
    assert shown(created) == first


def test_devices_come_and_go_before_the_boot(created):
    before = shown(created)
    for name, body in (
        ("disk", {"path": "/d"}),
        ("disk", {"path": "/e", "id": "data", "readonly": True}),
        ("net", {"mac": MAC}),
        ("pmem", {"file": "/p", "iommu": False}),
        ("vsock", {"cid": 3, "socket": "/v"}),
    ):
        response = created.request("PUT", f"vm.add-{name}", body)
        assert (response.status, response.body) == (204, b"")
    config = shown(created)
    assert [disk["id"] for disk in config["disks"]] == ["_disk0", "data"]
    assert config["net"][0]["mac"] == MAC
    ids = ["_disk0", "data", "_net1", "_pmem2", "_vsock3"]
    for device_id in ids:
        assert created.request("PUT", "vm.remove-device", {"id": device_id}).status == 204
    assert shown(created) == before
    gone = created.request("PUT", "vm.remove-device", {"id": "data"})
    assert "__console" in refused(gone, 404, "device_unknown")["/id"]


def test_a_device_that_does_not_fit_is_refused_by_its_own_fields(created):
    assert created.request("PUT", "vm.add-disk", {"path": "/d", "id": "one"}).status == 204
    for body, status, code, pointers in (
        ({"path": 5, "colour": "red"}, 400, "invalid_config", {"/path", "/colour"}),
        ({"path": "/d", "num_queues": 9}, 400, "invalid_config", {"/path", "/num_queues"}),
        ({"path": "/e", "id": "one"}, 409, "duplicate_id", {"/id"}),
        ({"path": "/e", "vhost_user": True}, 501, "not_supported", {"/vhost_user"}),
        ({"path": "/e", "image_type": "Qcow2"}, 501, "not_supported", {"/image_type"}),
    ):
        found = refused(created.request("PUT", "vm.add-disk", body), status, code)
        assert set(found) == pointers
    assert len(shown(created)["disks"]) == 1


def test_unknown_fields_of_a_device_may_be_passed_over(created):
    body = {"path": "/d", "colour": "red"}
    response = created.request("PUT", "vm.add-disk?compat=lenient", body)
    assert (response.status, response.headers["x-velum-ignored"]) == (204, "/colour")
    assert shown(created)["disks"][0]["path"] == "/d"


def test_a_vm_is_resized_before_its_boot(created):
    assert created.request("PUT", "vm.resize", {"desired_ram": 8 * MIB}).status == 204
    assert shown(created)["memory"]["size"] == 8 * MIB
    response = created.request("PUT", "vm.resize", {"desired_vcpus": 9, "desired_ram": 9 * MIB})
    assert set(refused(response, 400, "invalid_request")) == {"/desired_vcpus"}


def test_nothing_comes_to_a_vm_that_is_not_there(api):
    for name, body in (("add-disk", {"path": "/d"}), ("remove-device", {"id": "_disk0"})):
        assert api.request("PUT", f"vm.{name}", body).status == 404


def test_a_trial_tells_everything_that_the_host_lacks(api, tmp_path):
    disk = make_file(tmp_path / "disk", MIB)
    document = vm_config("/nowhere/vmlinuz", disks=[{"path": "/nowhere/disk"}, {"path": disk}])
    document |= {
        "pmem": [{"file": str(tmp_path)}],
        "rng": {"src": "/nowhere/random"},
        "serial": {"mode": "File", "file": "/nowhere/log"},
        "vsock": {"cid": 3, "socket": str(tmp_path / "vsock")},
    }
    document["payload"]["initramfs"] = "/nowhere/initrd"
    found = refused(api.request("PUT", "vm.create?dry_run=true", document), 422, "file_unavailable")
    assert set(found) - {"", "/memory/size"} == {
        *("/payload/kernel", "/payload/initramfs", "/disks/0/path", "/pmem/0/file"),
        *("/rng/src", "/serial/file"),
    }
    # Who creates a VM may make its files before the boot.
    assert api.request("PUT", "vm.create", document).status == 204


@pytest.mark.kvm
def test_a_trial_of_what_can_be_had_succeeds_and_changes_nothing(api, tmp_path):
    document = vm_config(build("hello"), disks=[{"path": make_file(tmp_path / "disk", MIB)}])
    assert api.request("PUT", "vm.create?dry_run=true", document).status == 204
    assert api.request("GET", "vm.info").status == 404
    document["payload"]["kernel"] = document["disks"][0]["path"]
    found = refused(api.request("PUT", "vm.create?dry_run=true", document), 422, "invalid_kernel")
    assert set(found) == {"/payload/kernel"}


@pytest.mark.kvm
def test_devices_that_came_before_the_boot_are_there_after_it(api, tmp_path):
    assert api.request("PUT", "vm.create", vm_config(build("count"))).status == 204
    disk = make_file(tmp_path / "disk", MIB)
    assert api.request("PUT", "vm.add-disk", {"path": disk, "id": "data"}).status == 204
    assert api.request("PUT", "vm.boot").status == 204
    assert "data" in api.request("GET", "vm.counters").json
    for name, body in (("add-disk", {"path": "/e"}), ("remove-device", {"id": "data"})):
        response = api.request("PUT", f"vm.{name}", body)
        assert (response.status, response.json["code"]) == (501, "not_supported")
        assert "vm.shutdown first" in response.json["detail"]
    assert api.request("PUT", "vm.shutdown").status == 204
    assert api.request("PUT", "vm.remove-device", {"id": "data"}).status == 204
    assert shown(api)["disks"] == []


@pytest.mark.kvm
def test_a_vm_runs_on_the_cpus_it_is_given(api):
    cpus = {"boot_vcpus": 1, "max_vcpus": 1, "affinity": [{"vcpu": 0, "host_cpus": [65535]}]}
    assert api.request("PUT", "vm.create", vm_config(build("count"), cpus=cpus)).status == 204
    found = refused(api.request("PUT", "vm.boot"), 422, "host_resource")
    assert set(found) == {"/cpus/affinity/0/host_cpus"}
