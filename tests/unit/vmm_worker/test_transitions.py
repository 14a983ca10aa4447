# SPDX-License-Identifier: Apache-2.0
"""Every cell of the table (state x operation)."""

from __future__ import annotations

from itertools import product

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation, VmState
from vmm_worker.transitions import STATES, TABLE, check

EDITS = " vm.add-disk vm.add-net vm.add-pmem vm.add-vsock vm.remove-device"

# Written down a second time, and by state, on purpose.
ALWAYS = "vmm.ping vmm.events vmm.metrics vmm.jobs vmm.cancel vmm.shutdown vm.delete"
ALLOWED = {
    None: "vm.create",
    VmState.CREATED: "vm.info vm.boot vm.resize" + EDITS,
    VmState.RUNNING: "vm.info vm.counters vm.pause vm.shutdown vm.reboot vm.power-button vm.nmi "
    "vm.resize",
    VmState.PAUSED: "vm.info vm.counters vm.resume vm.shutdown vm.reboot vm.power-button vm.nmi "
    "vm.resize",
    VmState.SHUTDOWN: "vm.info vm.boot vm.resize" + EDITS,
}
REFUSED = {
    None: dict.fromkeys(Operation, "vm_not_created"),
    VmState.CREATED: {
        **dict.fromkeys(Operation, "vm_not_running"),
        Operation.VM_CREATE: "vm_already_created",
    },
    VmState.RUNNING: {
        **dict.fromkeys(map(Operation, EDITS.split()), "not_supported"),
        Operation.VM_CREATE: "vm_already_created",
        Operation.VM_BOOT: "vm_already_running",
        Operation.VM_RESUME: "vm_not_paused",
    },
    VmState.PAUSED: {
        **dict.fromkeys(map(Operation, EDITS.split()), "not_supported"),
        Operation.VM_CREATE: "vm_already_created",
        Operation.VM_BOOT: "vm_already_running",
        Operation.VM_PAUSE: "vm_already_paused",
    },
    VmState.SHUTDOWN: {
        **dict.fromkeys(Operation, "vm_not_running"),
        Operation.VM_CREATE: "vm_already_created",
    },
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(product((None, *VmState), Operation))
    assert set(STATES) == {None, *VmState}


@pytest.mark.parametrize(("state", "operation"), list(product(STATES, Operation)))
def test_cell(state: VmState | None, operation: Operation) -> None:
    if operation in f"{ALWAYS} {ALLOWED[state]}".split():
        check(operation, state)
        return
    with pytest.raises(VmFailure) as caught:
        check(operation, state)
    assert caught.value.error.code == REFUSED[state][operation]
    assert caught.value.error.message.startswith(f"{operation}: ")
    assert "{" not in caught.value.error.message


@pytest.mark.parametrize("operation", list(Operation))
def test_a_vm_that_is_expected_is_not_one_that_there_is_not(operation: Operation) -> None:
    if operation in f"{ALWAYS} {ALLOWED[None]}".split():
        check(operation, None, expected=True)
        return
    with pytest.raises(VmFailure) as caught:
        check(operation, None, expected=True)
    assert caught.value.error.code is ErrorCode.VMM_UNAVAILABLE
