# SPDX-License-Identifier: Apache-2.0
"""Which operation is possible in which state: the one table, and its refusals.

``Shutdown`` is a guest that stopped by itself (it powered off, or it failed) and can be
booted again; after ``vm.shutdown`` a VM is ``Created``, as in Cloud Hypervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import Operation, VmState

__all__ = ["STATES", "TABLE", "check"]

STATES: Final = (None, VmState.CREATED, VmState.RUNNING, VmState.PAUSED, VmState.SHUTDOWN)
"""The columns of the table; ``None`` is before ``vm.create`` and after ``vm.delete``."""

_ok = None
_none = ErrorCode.VM_NOT_CREATED
_exists = ErrorCode.VM_ALREADY_CREATED
_stopped = ErrorCode.VM_NOT_RUNNING
_runs = ErrorCode.VM_ALREADY_RUNNING
_paused = ErrorCode.VM_ALREADY_PAUSED
_unpaused = ErrorCode.VM_NOT_PAUSED
_hotplug = ErrorCode.NOT_SUPPORTED

_ROWS: Final[dict[Operation, tuple[ErrorCode | None, ...]]] = {
    # ...................... nothing  Created   Running    Paused    Shutdown
    Operation.VMM_PING: (_ok, _ok, _ok, _ok, _ok),
    Operation.VMM_METRICS: (_ok, _ok, _ok, _ok, _ok),
    Operation.VMM_SHUTDOWN: (_ok, _ok, _ok, _ok, _ok),
    Operation.VMM_EVENTS: (_ok, _ok, _ok, _ok, _ok),
    Operation.VMM_JOBS: (_ok, _ok, _ok, _ok, _ok),
    Operation.VMM_CANCEL: (_ok, _ok, _ok, _ok, _ok),
    Operation.VM_CREATE: (_ok, _exists, _exists, _exists, _exists),
    Operation.VM_DELETE: (_ok, _ok, _ok, _ok, _ok),
    Operation.VM_INFO: (_none, _ok, _ok, _ok, _ok),
    Operation.VM_BOOT: (_none, _ok, _runs, _runs, _ok),
    Operation.VM_COUNTERS: (_none, _stopped, _ok, _ok, _stopped),
    Operation.VM_PAUSE: (_none, _stopped, _ok, _paused, _stopped),
    Operation.VM_RESUME: (_none, _stopped, _unpaused, _ok, _stopped),
    Operation.VM_SHUTDOWN: (_none, _stopped, _ok, _ok, _stopped),
    Operation.VM_REBOOT: (_none, _stopped, _ok, _ok, _stopped),
    Operation.VM_POWER_BUTTON: (_none, _stopped, _ok, _ok, _stopped),
    Operation.VM_NMI: (_none, _stopped, _ok, _ok, _stopped),
    Operation.VM_RESIZE: (_none, _ok, _ok, _ok, _ok),
    Operation.VM_ADD_DISK: (_none, _ok, _hotplug, _hotplug, _ok),
    Operation.VM_ADD_NET: (_none, _ok, _hotplug, _hotplug, _ok),
    Operation.VM_ADD_PMEM: (_none, _ok, _hotplug, _hotplug, _ok),
    Operation.VM_ADD_VSOCK: (_none, _ok, _hotplug, _hotplug, _ok),
    Operation.VM_REMOVE_DEVICE: (_none, _ok, _hotplug, _hotplug, _ok),
}

TABLE: Final[Mapping[tuple[VmState | None, Operation], ErrorCode | None]] = MappingProxyType(
    {
        (state, operation): cell
        for operation, row in _ROWS.items()
        for state, cell in zip(STATES, row, strict=True)
    }
)
"""(state, operation) -> the error it gives, or ``None`` where it is allowed."""

_MESSAGES: Final[dict[ErrorCode, str]] = {
    _none: "there is no VM yet; vm.create makes one",
    _exists: "this worker has a VM already; vm.delete removes it",
    _stopped: "the VM is not running (its state is {state}); vm.boot starts it",
    _runs: "the VM is already booted (its state is {state})",
    _paused: "the VM is already paused",
    _unpaused: "the VM is not paused (its state is {state})",
    _hotplug: "devices cannot come and go while the VM is booted yet (its state is {state}); "
    "vm.shutdown first",
}


def check(operation: Operation, state: VmState | None, *, expected: bool = False) -> None:
    """Refuse an operation that the state does not allow.

    Args:
        operation: Which one.
        state: The VM's.
        expected: Whether the worker itself is about to create the VM that there is not yet.

    Raises:
        VmFailure: With the code of the table's cell; ``vmm_unavailable`` for what needs a VM
            that is expected.
    """
    code = TABLE[state, operation]
    if expected and code is _none:
        raise VmFailure(
            ErrorCode.VMM_UNAVAILABLE,
            f"{operation}: the worker starts, and its VM is not there yet",
        )
    if code is not None:
        raise VmFailure(code, f"{operation}: {_MESSAGES[code].format(state=state)}")
