# SPDX-License-Identifier: Apache-2.0
"""``GET /metrics``, from real workers and guests, as Prometheus reads it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from api_server.metrics.counters import DERIVED
from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path
from tests.support.api import SILENCE, ApiProcess, Peer
from tests.support.guests import build
from tests.support.http import UnixHTTP
from tests.support.metrics import NAME, described, expressions
from tests.support.processes import eventually, make_file, start_worker, vm_config

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PATIENCE = 60.0


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(api: ApiProcess) -> Samples:
    with api.http() as http:
        answer = http.get("/metrics")
    assert answer.status == 200, answer.body
    return parse(answer.body.decode())


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def every_device(place: Path, guest: str = "chatter", **more: Any) -> dict[str, Any]:
    """Return a busy VM with one of each device that needs nothing of the host's network."""
    return vm_config(
        build(guest),
        payload={"cmdline": "lines=4000000000"},
        disks=[{"path": make_file(place / "disk", 1 << 20)}],
        pmem=[{"file": make_file(place / "pmem", 2 << 20)}],
        vsock={"cid": 3, "socket": str(place / "vsock")},
        balloon={"size": 0, "statistics": True},
        watchdog=True,
        pvpanic=True,
        console={"mode": "Null"},
        serial={"mode": "Null"},
        **more,
    )


def test_requests_are_counted_by_route_and_status(tmp_path: Path) -> None:
    with start_worker(tmp_path), ApiProcess(tmp_path) as api:
        api.request("GET", "vmm.ping")
        api.request("GET", "vmm.ping")
        api.request("GET", "vm.info")
        api.request("PUT", "vm.info")
        api.request("BREW", "vm.coffee")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(api.socket))
            client.sendall(b"what is this?\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
        samples = scrape(api)
    total = "velum_api_requests_total"
    ping, info = "/api/v1/vmm.ping", "/api/v1/vm.info"
    assert samples[sample(total, method="GET", route=ping, status="200")] == 2
    assert samples[sample(total, method="GET", route=info, status="404")] == 1
    assert samples[sample(total, method="other", route="other", status="405")] == 1
    assert samples[sample(total, method="other", route="other", status="404")] == 1
    assert samples[sample(total, method="other", route="other", status="400")] == 1
    assert samples[sample("velum_api_request_seconds_count", route=ping)] == 2
    # Both sides of the IPC have seen the same calls; the worker's own first one aside.
    assert samples[sample("velum_api_call_seconds_count", operation="vmm.ping")] == 2
    errors = sample("velum_api_call_errors_total", operation="vm.info", code="vm_not_created")
    assert samples[errors] == 1
    labels = {"vm": "default", "operation": "vm.info"}
    assert samples[sample("velum_worker_operation_seconds_count", **labels)] == 1
    failed = sample("velum_worker_operation_errors_total", **labels, code="vm_not_created")
    assert samples[failed] == 1


def test_connections_are_counted_while_they_are_there(tmp_path: Path) -> None:
    with ApiProcess(tmp_path) as api, contextlib.ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(api.socket))
        waiting = sample("velum_api_connections", state="waiting")
        served = sample("velum_api_connections", state="served")
        eventually(lambda: scrape(api)[waiting] == 5, "five connections wait")
        eventually(lambda: scrape(api)[served] == 1, "the one that asks is served")
        stack.close()
        eventually(lambda: scrape(api)[waiting] == 0, "they are gone")


@pytest.mark.kvm
def test_every_counter_of_every_device_is_told(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker, ApiProcess(tmp_path) as api:
        worker.call("vm.create", every_device(tmp_path))
        worker.call("vm.boot")
        eventually(lambda: worker.call("vm.counters")["__boot"], "the guest runs")
        counters = worker.call("vm.counters")
        samples = scrape(api)
    for device, counted in counters.items():
        if device.startswith("__vcpu"):
            mine = {("vcpu", device.removeprefix("__vcpu"))}
        else:
            mine = set() if device == "__boot" else {("device", device)}
        names = ("velum_vm_boot_", "velum_device_", "velum_queue_", "velum_vcpu_", "velum_guest_")
        told = [key for key in samples if key[0].startswith(names) and mine <= key[1]]
        if device == "__boot":
            told = [key for key in told if key[0] == "velum_vm_boot_seconds"]
        assert len(told) == len(counted.keys() - DERIVED), device
    assert samples[sample("velum_vm_state", vm="default", state="Running")] == 1
    assert samples[sample("velum_vm_memory_bytes", vm="default")] == 16 << 20


@pytest.mark.kvm
def test_what_a_guest_does_is_seen(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker, ApiProcess(tmp_path) as api:
        worker.call("vm.create", every_device(tmp_path))
        worker.call("vm.boot")
        exits = sample("velum_vcpu_exits_total", vm="default", vcpu="0", kind="io")
        seconds = sample("velum_vcpu_cpu_seconds_total", vm="default", vcpu="0")
        output = sample("velum_device_output_bytes_total", vm="default", device="__serial")
        before = scrape(api)

        def grown() -> bool:
            now = scrape(api)
            return all(now[key] > before[key] for key in (exits, seconds, output))

        eventually(grown, "exits, CPU time and output grow", timeout=PATIENCE)


@pytest.mark.kvm
@pytest.mark.usefixtures("network")
def test_what_dashboard_and_document_name_is_there_for_real(tmp_path: Path) -> None:
    net = [{"tap": "guest0", "vhost": False}]
    with start_worker(tmp_path) as worker, ApiProcess(tmp_path) as api:
        api.request("GET", "vm.info")
        worker.call("vm.create", every_device(tmp_path, "balloon", net=net))
        worker.call("vm.boot")
        told = sample("velum_guest_free_bytes", vm="default", device="__balloon")
        eventually(lambda: told in scrape(api), "the guest tells of its memory", timeout=PATIENCE)
        names = {name for name, _ in scrape(api)}
    # The tiny guest tells of two, and Linux of what it counts.
    missing = described() - names
    assert {name for name in missing if not name.startswith("velum_guest_")} == set()
    assert names <= described()
    assert {name for each in expressions() for name in NAME.findall(each)} <= names


def test_workers_come_go_and_hang_and_the_others_are_told_of(tmp_path: Path) -> None:
    up = {name: sample("velum_worker_up", vm=name) for name in ("well", "hung", "killed")}
    with ApiProcess(tmp_path) as api, start_worker(tmp_path, name="well"):
        samples = scrape(api)
        assert samples[up["well"]] == 1
        assert up["hung"] not in samples
        with start_worker(tmp_path, name="killed") as killed, start_worker(tmp_path, name="hung"):
            assert all(scrape(api)[key] == 1 for key in up.values())
            killed.stop(signal.SIGKILL)
            with Peer(ipc_path(tmp_path, "mute")) as mute:
                mute.answers[Operation.VMM_METRICS] = lambda _: SILENCE
                samples = scrape(api)
        assert samples[sample("velum_worker_up", vm="mute")] == 0
        assert samples[up["killed"]] == 0
        assert samples[up["well"]] == samples[up["hung"]] == 1
        errors = sample("velum_api_call_errors_total", operation="vmm.metrics", code="vmm_timeout")
        assert samples[errors] == 1


def test_openmetrics_is_given_to_who_asks_for_it(tmp_path: Path) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with start_worker(tmp_path), ApiProcess(tmp_path) as api, api.http() as http:
        plain = http.get("/metrics")
        answer = http.get("/metrics", headers=accept)
        head = http.request("HEAD", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in openmetrics_families(answer.body.decode())}
    assert {"velum_worker_up", "velum_worker_operation_seconds", "velum_api_requests"} <= names
    assert (head.status, head.body) == (200, b"")


def test_a_pinned_server_tells_of_its_worker_alone(tmp_path: Path) -> None:
    with (
        start_worker(tmp_path, name="mine"),
        start_worker(tmp_path, name="other"),
        ApiProcess(tmp_path, "--vm", "mine") as api,
    ):
        samples = scrape(api)
    told = {dict(labels)["vm"] for _, labels in samples if "vm" in dict(labels)}
    assert told == {"mine"}


class TestMetricsSocket:
    """A socket of its own, for who may know the metrics and do nothing."""

    def test_it_has_the_metrics_and_nothing_else(self, tmp_path: Path) -> None:
        place = tmp_path / "metrics.sock"
        with (
            start_worker(tmp_path) as worker,
            ApiProcess(tmp_path, "--metrics-socket", place, "--metrics-group", os.getgid()) as api,
        ):
            assert stat.S_IMODE(place.stat().st_mode) == 0o660
            with UnixHTTP(place) as http:
                samples = parse(http.get("/metrics").body.decode())
                refusals = [
                    http.put("/api/v1/vmm.shutdown").status,
                    http.get("/api/v1/vmm.ping").status,
                    http.put("/metrics").status,
                ]
            assert refusals == [404, 404, 405]
            assert samples[sample("velum_worker_up", vm="default")] == 1
            assert worker.call("vmm.ping").pid == worker.pid
            assert api.request("GET", "vmm.ping").status == 200
            api.stop()
            assert not place.exists()
            assert not api.socket.exists()

    def test_it_answers_while_every_thread_waits_for_a_worker(self, tmp_path: Path) -> None:
        place = tmp_path / "metrics.sock"
        release = threading.Event()
        with (
            ApiProcess(tmp_path, "--metrics-socket", place, "--threads", 2) as api,
            contextlib.ExitStack() as stack,
        ):
            for name in ("a", "b", "c", "d"):
                peer = stack.enter_context(Peer(ipc_path(tmp_path, name)))
                peer.answers[Operation.VM_BOOT] = lambda _: (release.wait(PATIENCE), None)[1]
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(api.socket))
                request = f"PUT /api/v1/vm.boot HTTP/1.1\r\nHost: {name}\r\n\r\n"
                client.sendall(request.encode())
            served = sample("velum_api_connections", state="served")

            def saturated() -> bool:
                with UnixHTTP(place) as http:
                    return parse(http.get("/metrics").body.decode())[served] >= 4

            try:
                eventually(saturated, "all threads wait, and that is seen", timeout=PATIENCE)
            finally:
                release.set()

    def test_two_sockets_cannot_be_one(self, tmp_path: Path) -> None:
        with ApiProcess(tmp_path, "--metrics-socket", tmp_path / "api.sock", ready=False) as api:
            assert api.wait() == 1
            assert "cannot listen at" in api.read_log()
        assert not list(tmp_path.glob("api.sock*"))


def test_a_scrape_of_many_workers_waits_for_the_slowest_alone(tmp_path: Path) -> None:
    """Not for the sum of all: half of them hang."""
    with contextlib.ExitStack() as stack:
        for number in range(30):
            peer = stack.enter_context(Peer(ipc_path(tmp_path, f"vm{number}")))
            peer.answers[Operation.VMM_METRICS] = lambda _: SILENCE
        api = stack.enter_context(ApiProcess(tmp_path))
        started = time.monotonic()
        samples = scrape(api)
        took = time.monotonic() - started
    assert sum(name == "velum_worker_up" for name, _ in samples) == 30
    assert took < 30 * 2 / 2
