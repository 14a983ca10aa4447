# SPDX-License-Identifier: Apache-2.0
"""Every cell of (state x operation), against the process, in states reached for real."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import VmFailure
from ipc_protocol.jobs import JobInfo
from ipc_protocol.messages import Operation, VmInfo, VmmPing, VmState, WorkerMetrics
from ipc_protocol.monitor import EventBatch
from tests.support.guests import build
from tests.support.processes import Worker, start_worker, vm_config

pytestmark = pytest.mark.kvm

NOTHING = None
STATES = (NOTHING, *VmState)

RUNNING_OR_PAUSED = (VmState.RUNNING, VmState.PAUSED)
COLD = (VmState.CREATED, VmState.SHUTDOWN)
BODIES: dict[Operation, dict[str, Any]] = {
    Operation.VMM_CANCEL: {"id": "that of no job"},
    Operation.VMM_EVENTS: {},
    Operation.VM_RESIZE: {},
    Operation.VM_ADD_DISK: {"path": "/nowhere"},
    Operation.VM_ADD_NET: {},
    Operation.VM_ADD_PMEM: {"file": "/nowhere"},
    Operation.VM_ADD_VSOCK: {"cid": 3, "socket": "/nowhere"},
    Operation.VM_REMOVE_DEVICE: {"id": "that of no device"},
}
ADDS = [operation for operation in Operation if operation.startswith("vm.add-")]
AFTER: dict[tuple[VmState | None, Operation], VmState | None] = {
    (NOTHING, Operation.VM_CREATE): VmState.CREATED,
    (VmState.CREATED, Operation.VM_BOOT): VmState.RUNNING,
    (VmState.SHUTDOWN, Operation.VM_BOOT): VmState.RUNNING,
    (VmState.RUNNING, Operation.VM_PAUSE): VmState.PAUSED,
    (VmState.PAUSED, Operation.VM_RESUME): VmState.RUNNING,
    **{(state, Operation.VM_SHUTDOWN): VmState.CREATED for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_REBOOT): VmState.RUNNING for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_COUNTERS): state for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_POWER_BUTTON): state for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_NMI): state for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_INFO): state for state in VmState},
    **{(state, Operation.VM_RESIZE): state for state in VmState},
    **{cell: cell[0] for cell in product(COLD, ADDS)},
    **{(state, Operation.VM_DELETE): NOTHING for state in STATES},
    **{(state, Operation.VMM_PING): state for state in STATES},
    **{(state, Operation.VMM_METRICS): state for state in STATES},
    **{(state, Operation.VMM_JOBS): state for state in STATES},
    **{(state, Operation.VMM_EVENTS): state for state in STATES},
}
"""The state that follows; what is not here is refused and changes nothing."""

BOOTED = "vm_already_running"
STOPPED = "vm_not_running"
CODES: dict[tuple[VmState | None, Operation], str] = {
    **{(NOTHING, operation): "vm_not_created" for operation in Operation},
    **{(VmState.CREATED, operation): STOPPED for operation in Operation},
    **{(VmState.SHUTDOWN, operation): STOPPED for operation in Operation},
    **{(state, Operation.VM_CREATE): "vm_already_created" for state in VmState},
    **{(state, Operation.VM_BOOT): BOOTED for state in RUNNING_OR_PAUSED},
    **dict.fromkeys(product(RUNNING_OR_PAUSED, ADDS), "not_supported"),
    **{(state, Operation.VM_REMOVE_DEVICE): "not_supported" for state in RUNNING_OR_PAUSED},
    **{(state, Operation.VM_REMOVE_DEVICE): "device_unknown" for state in COLD},
    **{(state, Operation.VMM_CANCEL): "job_unknown" for state in STATES},
    (VmState.RUNNING, Operation.VM_RESUME): "vm_not_paused",
    (VmState.PAUSED, Operation.VM_PAUSE): "vm_already_paused",
}


class Shared:
    """One worker for many cells."""

    def __init__(self, runtime_dir: Path) -> None:
        self.worker = start_worker(runtime_dir)
        self._kernel = runtime_dir / "kernel"

    def _install(self, guest: str) -> None:
        self._kernel.unlink(missing_ok=True)
        self._kernel.symlink_to(build(guest))

    def bring(self, state: VmState | None) -> Worker:
        worker = self.worker
        if state_of(worker) != state:
            worker.call("vm.delete")
            self._install("poweroff" if state is VmState.SHUTDOWN else "hello")
            if state is not NOTHING:
                worker.call("vm.create", vm_config(self._kernel))
            if state in (*RUNNING_OR_PAUSED, VmState.SHUTDOWN):
                worker.call("vm.boot")
            if state is VmState.PAUSED:
                worker.call("vm.pause")
            if state is not NOTHING:
                worker.wait_for(state=state)
            self._install("hello")
        return worker


def state_of(worker: Worker) -> VmState | None:
    try:
        return worker.info().state
    except VmFailure as ex:
        if ex.error.code != "vm_not_created":
            raise
        return NOTHING


def body_of(operation: Operation) -> dict[str, Any] | None:
    if operation is Operation.VM_CREATE:
        return vm_config(build("hello"))
    return BODIES.get(operation)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("worker"))
    with shared.worker:
        yield shared


@pytest.mark.parametrize(
    ("state", "operation"),
    [cell for cell in product(STATES, Operation) if cell[1] is not Operation.VMM_SHUTDOWN],
)
def test_cell(shared: Shared, state: VmState | None, operation: Operation) -> None:
    worker = shared.bring(state)
    if (state, operation) not in AFTER:
        error = worker.error(operation, body_of(operation))
        assert error.code == CODES[state, operation]
        assert state_of(worker) == state
        return
    value = worker.call(operation, body_of(operation))
    match operation:
        case Operation.VMM_PING:
            assert isinstance(value, VmmPing)
            assert value.pid == worker.pid
        case Operation.VM_INFO:
            assert isinstance(value, VmInfo)
            assert value.memory_actual_size == 16 << 20
        case Operation.VM_COUNTERS:
            assert "__vcpu0" in value
        case Operation.VMM_JOBS:
            assert all(isinstance(job, JobInfo) for job in value)
        case Operation.VMM_EVENTS:
            assert isinstance(value, EventBatch)
        case Operation.VMM_METRICS:
            assert isinstance(value, WorkerMetrics)
            assert value.state == state
        case _:
            assert value is None
    assert state_of(worker) == AFTER[state, operation]
    if operation in ADDS:
        worker.call("vm.delete")  # What was added is nowhere to be had.


@pytest.mark.parametrize("state", STATES)
def test_vmm_shutdown(tmp_path: Path, state: VmState | None) -> None:
    shared = Shared(tmp_path)
    with shared.worker as worker:
        shared.bring(state)
        assert worker.call("vmm.shutdown") is None
        assert worker.wait() == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"default.log", "kernel"}
