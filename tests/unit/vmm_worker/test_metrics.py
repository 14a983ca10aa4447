# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import Operation
from ipc_protocol.metrics import LATENCY_BOUNDS
from vmm_worker.metrics import OperationTimes


def test_an_answer_counts_in_the_first_bucket_that_holds_it():
    times = OperationTimes()
    for seconds in (0.0, LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1], LATENCY_BOUNDS[-1] + 1):
        times.note(Operation.VM_BOOT, seconds, None)
    counts = times.report()[Operation.VM_BOOT].latency.counts
    assert counts[0] == 2
    assert counts[-2:] == (1, 1)
    assert sum(counts) == 4


def test_each_operation_has_its_own_sum_and_its_errors_by_code():
    times = OperationTimes()
    times.note(Operation.VM_BOOT, 0.25, None)
    times.note(Operation.VM_BOOT, 0.5, ErrorCode.FILE_UNAVAILABLE)
    times.note(Operation.VM_BOOT, 0.25, ErrorCode.FILE_UNAVAILABLE)
    times.note(Operation.VMM_PING, 0.0, None)
    report = times.report()
    assert report.keys() == {Operation.VM_BOOT, Operation.VMM_PING}
    assert report[Operation.VM_BOOT].latency.sum == 1.0
    assert report[Operation.VM_BOOT].errors == {ErrorCode.FILE_UNAVAILABLE: 2}
    assert report[Operation.VMM_PING].errors == {}


def test_a_report_stays_what_it_was():
    times = OperationTimes()
    times.note(Operation.VMM_PING, 0.0, ErrorCode.INTERNAL)
    before = times.report()
    times.note(Operation.VMM_PING, 0.0, ErrorCode.INTERNAL)
    assert sum(before[Operation.VMM_PING].latency.counts) == 1
    assert before[Operation.VMM_PING].errors == {ErrorCode.INTERNAL: 1}
