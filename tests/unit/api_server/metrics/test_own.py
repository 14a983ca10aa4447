# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

from prometheus_client.exposition import generate_latest

from api_server.metrics.own import ApiMetrics
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import Operation


def test_requests_and_calls_are_counted_from_any_thread():
    metrics = ApiMetrics()

    def work():
        for _ in range(100):
            metrics.note_request("GET", "/api/v1/vm.info", 404, 0.002)
            metrics.note_call(Operation.VM_INFO, 0.001, ErrorCode.VM_NOT_CREATED)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value = metrics.registry.get_sample_value
    labels = {"method": "GET", "route": "/api/v1/vm.info", "status": "404"}
    assert value("velum_api_requests_total", labels) == 800
    labels = {"operation": "vm.info", "code": "vm_not_created"}
    assert value("velum_api_call_errors_total", labels) == 800
    bucket = {"operation": "vm.info", "le": "0.001"}
    assert value("velum_api_call_seconds_bucket", bucket) == 800


def test_connections_are_asked_for_when_they_are_told():
    metrics = ApiMetrics()
    connections = {"served": 1, "waiting": 2}
    metrics.watch_connections(
        served=lambda: connections["served"], waiting=lambda: connections["waiting"]
    )
    connections["waiting"] = 5
    value = metrics.registry.get_sample_value
    assert value("velum_api_connections", {"state": "served"}) == 1
    assert value("velum_api_connections", {"state": "waiting"}) == 5


def test_nothing_is_told_twice_and_no_series_has_a_birthday():
    metrics = ApiMetrics()
    metrics.note_request("GET", "/api/v1/vm.info", 200, 0.0)
    text = generate_latest(metrics.registry).decode()
    helps = [line for line in text.splitlines() if line.startswith("# HELP")]
    assert len({line.split()[2] for line in helps}) == len(helps)
    assert "_created" not in text
