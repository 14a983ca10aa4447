# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api_server.metrics.workers import tell_workers
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.jobs import JobState
from ipc_protocol.messages import Operation, VmState, WorkerMetrics
from ipc_protocol.metrics import (
    LATENCY_BOUNDS,
    IpcMetrics,
    Latency,
    OperationMetrics,
    ProcessMetrics,
)

PROCESS = ProcessMetrics(
    start_time=1e9, cpu_seconds=2.5, resident_bytes=4096, open_descriptors=7, threads=3
)
IPC = IpcMetrics(
    refused=1, dropped=2, undelivered=3, connections=4, ended={"stranger": 5, "foreign": 6}
)


def worker(counters=None, operations=None, jobs=None, **members):
    return WorkerMetrics(
        process=PROCESS,
        ipc=IPC,
        operations=operations or {},
        jobs=jobs or {},
        counters=counters or {},
        **members,
    )


def told(answers):
    """Return the samples as Prometheus reads them: (name, labels) -> value."""
    text = generate_latest(tell_workers(answers)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(name, **labels):
    return name, frozenset(labels.items())


def test_a_worker_that_does_not_answer_is_down_and_nothing_else_is_said_of_it():
    gone = VmFailure(ErrorCode.VMM_TIMEOUT, "it hangs")
    samples = told({"a": worker(), "b": gone})
    assert samples[sample("velum_worker_up", vm="a")] == 1
    assert samples[sample("velum_worker_up", vm="b")] == 0
    assert len([key for key in samples if ("vm", "b") in key[1]]) == 1


def test_process_and_messages():
    samples = told({"a": worker()})
    assert samples[sample("velum_worker_cpu_seconds_total", vm="a")] == 2.5
    assert samples[sample("velum_worker_resident_bytes", vm="a")] == 4096
    for outcome, count in (("refused", 1), ("dropped", 2), ("undelivered", 3)):
        key = sample("velum_worker_ipc_failures_total", vm="a", outcome=outcome)
        assert samples[key] == count
    assert samples[sample("velum_worker_ipc_connections", vm="a")] == 4
    for reason, count in (("stranger", 5), ("foreign", 6)):
        key = sample("velum_worker_ipc_connections_ended_total", vm="a", reason=reason)
        assert samples[key] == count


@pytest.mark.parametrize("state", [None, *VmState])
def test_a_vm_is_in_one_state(state):
    samples = told({"a": worker(state=state)})
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in samples.items()
        if name == "velum_vm_state"
    }
    assert {name for name, value in states.items() if value} == {state or "Absent"}
    assert len(states) == len(VmState) + 1


def test_a_latency_is_a_cumulative_histogram():
    counts = (3, *(0,) * (len(LATENCY_BOUNDS) - 1), 1)
    boot = OperationMetrics(
        latency=Latency(counts=counts, sum=99.5), errors={ErrorCode.FILE_UNAVAILABLE: 1}
    )
    samples = told({"a": worker(operations={Operation.VM_BOOT: boot})})
    labels = {"vm": "a", "operation": "vm.boot"}
    name = "velum_worker_operation_seconds"
    assert samples[sample(f"{name}_bucket", **labels, le=str(LATENCY_BOUNDS[0]))] == 3
    assert samples[sample(f"{name}_bucket", **labels, le=str(LATENCY_BOUNDS[-1]))] == 3
    assert samples[sample(f"{name}_bucket", **labels, le="+Inf")] == 4
    assert samples[sample(f"{name}_count", **labels)] == 4
    assert samples[sample(f"{name}_sum", **labels)] == 99.5
    errors = sample("velum_worker_operation_errors_total", **labels, code="file_unavailable")
    assert samples[errors] == 1


def test_jobs_under_way_are_a_gauge_and_those_that_ended_a_counter():
    samples = told({"a": worker(jobs={JobState.RUNNING: 1, JobState.FAILED: 4})})
    assert samples[sample("velum_worker_jobs", vm="a", state="Running")] == 1
    assert samples[sample("velum_worker_jobs_ended_total", vm="a", state="Failed")] == 4


def test_counters_get_their_names_labels_and_base_units():
    counters = {
        "__vcpu1": {"exits_io": 5, "unclaimed_mmio": 2, "cpu_us": 1_500_000},
        "__boot": {"first_instruction_us": 9_000, "stamp_0x41_us": 2_000_000},
        "_disk0": {"read_bytes": 512, "throttled_us": 250_000, "queue12_interrupts": 4},
        "_vsock1": {"connections": 1, "connections_total": 8},
    }
    samples = told({"a": worker(counters=counters)})
    vcpu = {"vm": "a", "vcpu": "1"}
    disk = {"vm": "a", "device": "_disk0"}
    vsock = {"vm": "a", "device": "_vsock1"}
    expected = {
        sample("velum_vcpu_exits_total", **vcpu, kind="io"): 5,
        sample("velum_vcpu_unclaimed_total", **vcpu, space="mmio"): 2,
        sample("velum_vcpu_cpu_seconds_total", **vcpu): 1.5,
        sample("velum_vm_boot_seconds", vm="a", stage="first_instruction"): 0.009,
        sample("velum_vm_boot_seconds", vm="a", stage="stamp_0x41"): 2,
        sample("velum_device_read_bytes_total", **disk): 512,
        sample("velum_device_throttled_seconds_total", **disk): 0.25,
        sample("velum_queue_interrupts_total", **disk, queue="12"): 4,
        sample("velum_device_open_connections", **vsock): 1,
        sample("velum_device_connections_total", **vsock): 8,
    }
    assert {key: samples[key] for key in expected} == pytest.approx(expected)


def test_a_worker_cannot_make_up_metrics_or_break_out_of_a_label():
    text = 'x"} 1\nvelum_worker_up{vm="b'
    counters = {
        text: {"read_bytes": 1, text: 1, "queue0_made_up": 1, "made_up": 1},
        "__vcpu0": {"exits_" + text: 1, "made_up": 1},
    }
    samples = told({"a": worker(counters=counters)})
    assert not [key for key in samples if ("vm", "b") in key[1]]
    assert not [name for name, _ in samples if "made_up" in name]
    assert samples[sample("velum_device_read_bytes_total", vm="a", device=text)] == 1
    assert samples[sample("velum_vcpu_exits_total", vm="a", vcpu="0", kind=text)] == 1
