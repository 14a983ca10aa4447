# SPDX-License-Identifier: Apache-2.0
"""Jobs over HTTP, with a real server and a real worker: seen, awaited, retried, cancelled."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import DEADLINE, eventually, slow_memory, start_worker, vm_config

ASYNC = {"Prefer": "respond-async"}
READS = 200
CONFIG = vm_config("/nowhere/vmlinuz")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiProcess(tmp_path_factory.mktemp("jobs")) as api:
        yield api


@pytest.fixture
def worker(server):
    with start_worker(server.runtime_dir) as worker:
        yield worker


@pytest.fixture
def api(server, worker):
    """The server, with a worker that has done nothing yet."""
    assert worker.call("vmm.jobs") == ()
    return server


def _jobs(api):
    response = api.request("GET", "vmm.jobs")
    assert response.status == 200
    return response.json


def _finished(api, job_id):
    """Wait for a job's end and return it."""

    def over():
        (job,) = (each for each in _jobs(api) if each["id"] == job_id)
        return job if "ended" in job else None

    return eventually(over, f"job {job_id} is over")


def _refused(response, status, code):
    assert (response.status, response.json["code"]) == (status, code)
    return response.json


def test_whoever_prefers_it_gets_the_job_and_not_the_result(api):
    headers = {**ASYNC, "X-Request-Id": "r-1"}
    response = api.request("PUT", "vm.create", CONFIG, headers=headers)
    assert response.status == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["content-type"] == "application/json"
    job = response.json
    assert (job["operation"], job["request_id"]) == ("vm.create", "r-1")
    assert job["state"] in ("Queued", "Running")
    ended = _finished(api, job["id"])
    assert (ended["state"], ended["progress"]) == ("Succeeded", 1.0)
    assert job["submitted"] == ended["submitted"] <= ended["started"] <= ended["ended"]
    assert api.request("GET", "vm.info").json["state"] == "Created"


@pytest.mark.parametrize(("method", "name"), [("GET", "vmm.ping"), ("GET", "vmm.jobs")])
def test_what_is_no_job_is_answered_at_once_whatever_is_preferred(method, name, api):
    response = api.request(method, name, headers=ASYNC)
    assert response.status == 200
    assert "preference-applied" not in response.headers
    assert _jobs(api) == []


def test_a_job_that_fails_keeps_its_error(api):
    job = api.request("PUT", "vm.boot", headers=ASYNC).json
    ended = _finished(api, job["id"])
    assert ended["state"] == "Failed"
    assert ended["error"]["code"] == "vm_not_created"
    # That a kernel is missing is only found when the VM is booted.
    assert api.request("PUT", "vm.create", CONFIG).status == 204
    job = api.request("PUT", "vm.boot", headers=ASYNC).json
    assert _finished(api, job["id"])["error"]["fields"][0]["pointer"] == "/payload/kernel"
    assert [each["state"] for each in _jobs(api)] == ["Failed", "Succeeded", "Failed"]


def test_the_request_id_is_in_the_workers_log(api, worker):
    api.request("PUT", "vm.create", CONFIG, headers={"X-Request-Id": "the-create"})
    api.request("PUT", "vm.boot", headers={"X-Request-Id": "the-boot"})
    lines = worker.read_log().splitlines()
    (created,) = (line for line in lines if line.endswith(" request_id=the-create"))
    assert "vm.create done" in created
    (failed,) = (line for line in lines if line.endswith(" request_id=the-boot"))
    assert "vm.boot failed" in failed
    assert "file_unavailable" in failed


def test_with_a_key_a_retry_is_answered_as_the_first(api):
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    for _ in range(3):
        assert api.request("PUT", "vm.create", CONFIG, headers=key).status == 204
    assert len(_jobs(api)) == 1
    assert api.request("PUT", "vm.create", CONFIG, headers={**key, **ASYNC}).json == _jobs(api)[0]
    _refused(api.request("PUT", "vm.create", CONFIG), 409, "vm_already_created")
    other = vm_config("/other")
    conflict = api.request("PUT", "vm.create", other, headers=key)
    _refused(conflict, 409, "idempotency_conflict")
    _refused(api.request("PUT", "vm.boot", headers=key), 409, "idempotency_conflict")


def test_with_a_key_a_failure_is_tried_again(api):
    key = {"Idempotency-Key": "k"}
    _refused(api.request("PUT", "vm.resize", {}, headers=key), 404, "vm_not_created")
    assert api.request("PUT", "vm.create", CONFIG).status == 204
    assert api.request("PUT", "vm.resize", {}, headers=key).status == 204


def test_a_key_that_is_none_is_refused(api):
    for key in ("", "a b", "x" * 256):
        response = api.request("PUT", "vm.boot", headers={"Idempotency-Key": key})
        assert "Idempotency-Key" in _refused(response, 400, "invalid_request")["detail"]
    assert _jobs(api) == []


def test_a_trial_checks_and_changes_nothing(api):
    for _ in range(2):
        response = api.request("PUT", "vm.create?dry_run=true", CONFIG)
        _refused(response, 422, "file_unavailable")  # which vm.create does not mind
    assert api.request("GET", "vm.info").status == 404
    wrong = {**CONFIG, "cpus": {"boot_vcpus": 0, "max_vcpus": 0}}
    refused = api.request("PUT", "vm.create?dry_run=true", wrong)
    assert len(_refused(refused, 400, "invalid_config")["errors"]) == 2
    assert api.request("PUT", "vm.create?dry_run=false", CONFIG).status == 204
    refused = api.request("PUT", "vm.boot?dry_run=true")
    assert "dry_run" in _refused(refused, 400, "invalid_request")["detail"]


def test_unknown_fields_are_passed_over_where_that_is_asked_for(api):
    config = {**CONFIG, "zeppelin": {}, "cpus": {"boot_vcpus": 1, "max_vcpus": 1, "w\u00e4rme": 1}}
    _refused(api.request("PUT", "vm.create", config), 400, "invalid_config")
    response = api.request("PUT", "vm.create?compat=lenient", config)
    assert response.status == 204
    assert set(response.headers["x-velum-ignored"].split(", ")) == {
        "/zeppelin",
        "/cpus/w%C3%A4rme",
    }
    assert api.request("PUT", "vm.delete").status == 204
    response = api.request("PUT", "vm.create?compat=lenient", CONFIG)
    assert response.status == 204
    assert "x-velum-ignored" not in response.headers
    assert api.request("PUT", "vm.delete").status == 204
    config |= {f"more{number}": 1 for number in range(100)}
    ignored = api.request("PUT", "vm.create?compat=lenient", config).headers["x-velum-ignored"]
    assert ignored.split(", ")[-1] == "..."
    assert len(ignored) < 4096


def test_what_cannot_be_cancelled_says_why(api):
    _refused(api.request("PUT", "vmm.cancel", {"id": "nobody's"}), 404, "job_unknown")
    assert api.request("PUT", "vm.create", CONFIG).status == 204
    (job,) = _jobs(api)
    _refused(api.request("PUT", "vmm.cancel", {"id": job["id"]}), 409, "job_finished")
    for body in ({}, {"id": ""}, {"id": 1}, {"id": "x" * 65}):
        refused = _refused(api.request("PUT", "vmm.cancel", body), 400, "invalid_request")
        assert [error["pointer"] for error in refused["errors"]] == ["/id"]


@pytest.fixture
def slow_boot(api, worker):
    """The server of a worker whose next boot takes a while."""
    config = vm_config(build("hello"), memory=slow_memory())
    assert api.request("PUT", "vm.create", config).status == 204
    # The first boot loads what stays loaded.
    for name in ("vm.boot", "vm.shutdown"):
        assert api.request("PUT", name).status == 204
    return api, worker


def _prefaulting(http):
    """Return the boot that is held in its longest stage, if one is."""
    jobs = http.get("/api/v1/vmm.jobs").json
    running = (job for job in jobs if job["state"] == "Running" and job["stage"] == "memory")
    return next(running, None)


@pytest.mark.kvm
def test_reads_are_answered_while_a_boot_prefaults(slow_boot):
    api, _ = slow_boot
    answered = boots = 0
    progress = set()
    with api.http() as http:
        while answered < READS:
            assert boots < READS, "no boot takes long enough to be looked at"
            job = http.put("/api/v1/vm.boot", headers=ASYNC).json
            boots += 1
            while (held := _prefaulting(http)) is not None or "ended" not in (
                next(each for each in http.get("/api/v1/vmm.jobs").json if each["id"] == job["id"])
            ):
                for name in ("vmm.ping", "vm.info"):
                    assert http.get(f"/api/v1/{name}").status == 200
                if held is not None and _prefaulting(http) is not None:
                    answered += 2  # Those between two looks at it.
                    progress.add(held.get("progress"))
            assert _finished(api, job["id"])["state"] == "Succeeded"
            assert http.put("/api/v1/vm.shutdown").status == 204
    shown = progress - {None}
    assert len(shown) > 2
    assert all(0 <= each <= 1 for each in shown)


def _cancelled_boot(api, http):
    """Boot and cancel until the boot is cancelled in the middle; return its caller's answer."""
    with ThreadPoolExecutor(1) as other:
        for _ in range(50):
            boot = other.submit(api.request, "PUT", "vm.boot")
            while not boot.done():
                held = _prefaulting(http)
                if held is not None:
                    answer = http.put("/api/v1/vmm.cancel", {"id": held["id"]})
                    assert answer.status in (204, 409), "it may be over just then"
            response = boot.result(DEADLINE)
            if response.status != 204:
                return response
            assert http.put("/api/v1/vm.shutdown").status == 204
    pytest.fail("no boot takes long enough to be cancelled")


@pytest.mark.kvm
def test_a_boot_that_prefaults_is_cancelled_and_leaves_nothing(slow_boot):
    api, worker = slow_boot

    def holdings():
        worker.call("vmm.ping")
        # The API has more connections to the worker when it is asked for two things at once.
        descriptors = [each for each in worker.descriptors() if each != "socket"]
        return descriptors, worker.threads()

    before = holdings()
    with api.http() as http:
        _refused(_cancelled_boot(api, http), 409, "operation_cancelled")
        job = http.get("/api/v1/vmm.jobs").json[-1]
    assert (job["state"], job["stage"]) == ("Cancelled", "memory")
    assert job["error"]["code"] == "operation_cancelled"
    eventually(lambda: holdings() == before, "nothing is left of a cancelled boot")
    assert api.request("GET", "vm.info").json["state"] == "Created"
    for name in ("vm.boot", "vm.shutdown"):
        assert api.request("PUT", name).status == 204


@pytest.mark.kvm
def test_a_boot_whose_reply_was_lost_is_retried(slow_boot):
    api, _ = slow_boot
    key = {"Idempotency-Key": "boot-1"}
    with api.http(timeout=0.01) as http, pytest.raises(TimeoutError):
        http.put("/api/v1/vm.boot", headers=key)
    assert api.request("PUT", "vm.boot", headers=key).status == 204
    assert api.request("PUT", "vm.boot", headers=key).status == 204
    assert api.request("GET", "vm.info").json["boots"] == 2
    _refused(api.request("PUT", "vm.boot"), 409, "vm_already_running")
