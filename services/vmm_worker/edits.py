# SPDX-License-Identifier: Apache-2.0
"""``vm.add-*`` and ``vm.remove-device`` on a VM that is not booted: edits of what it is made of."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from ipc_protocol.messages import Operation, VmRemoveDevice
from ipc_protocol.validation import parse_config
from vmm_worker.devices.kinds import completed, wanted_devices

__all__ = ["EDITS", "edited"]

_ADDED: Final = {
    Operation.VM_ADD_DISK: "disks",
    Operation.VM_ADD_NET: "net",
    Operation.VM_ADD_PMEM: "pmem",
    Operation.VM_ADD_VSOCK: "vsock",
}
"""Where the configuration has what each of them adds."""

EDITS: Final = frozenset({*_ADDED, Operation.VM_REMOVE_DEVICE})


def edited(config: VmConfig, operation: Operation, body: Any) -> VmConfig:
    """Return the configuration with the device that an operation adds, or without it.

    Args:
        config: The configuration as it is.
        operation: One of :data:`EDITS`.
        body: What its signature says.

    Raises:
        VmFailure: ``device_unknown``, or what is wrong with the configuration that would
            come of it, with pointers into the body of the request.
    """
    if isinstance(body, VmRemoveDevice):
        return _without(config, body.id)
    return completed(_with(config, _ADDED[operation], body, operation))


def _with(config: VmConfig, field: str, device: Any, operation: Operation) -> VmConfig:
    present = getattr(config, field)
    if isinstance(present, tuple):
        pointer, value = f"/{field}/{len(present)}", (*present, device)
    elif present is None:
        pointer, value = f"/{field}", device
    else:
        reason = f"there is one already ({present.id}), and a VM has one at most; remove it first"
        raise VmFailure(
            ErrorCode.INVALID_CONFIG, f"{operation}: {reason}", fields=(FieldError("", reason),)
        )
    changed = msgspec.structs.replace(config, **{field: value})
    try:
        return parse_config(msgspec.to_builtins(changed), newest=pointer)
    except VmFailure as ex:
        error = ex.error
        fields = tuple(_into_body(each, pointer) for each in error.fields)
        first = f"{fields[0].pointer or 'the device'} {fields[0].message}"
        raise VmFailure(error.code, f"{operation}: {first}", fields=fields) from ex


def _into_body(error: FieldError, pointer: str) -> FieldError:
    """Say what is wrong with a field of the configuration as of the device's own body."""
    if error.pointer == pointer or error.pointer.startswith(f"{pointer}/"):
        return FieldError(error.pointer.removeprefix(pointer), error.message)
    return FieldError("", f"{error.pointer or 'the configuration'} {error.message}")


def _without(config: VmConfig, device_id: str) -> VmConfig:
    devices = {wanted.id: wanted for wanted in wanted_devices(config)}
    if device_id not in devices:
        reason = f"is none of the VM's devices, which are {', '.join(devices)}"
        raise _refusal(ErrorCode.DEVICE_UNKNOWN, device_id, reason)
    wanted = devices[device_id]
    field = wanted.kind.field
    defaults = {each.name: each.default for each in msgspec.structs.fields(VmConfig)}
    value = getattr(config, field)
    if isinstance(value, tuple):
        rest: Any = tuple(each for each in value if each is not wanted.config)
    elif isinstance(defaults[field], msgspec.Struct):
        reason = f"cannot be removed: every VM has it, and {field} says how it is"
        raise _refusal(ErrorCode.INVALID_REQUEST, device_id, reason)
    else:
        rest = defaults[field]
    return msgspec.structs.replace(config, **{field: rest})


def _refusal(code: ErrorCode, device_id: str, reason: str) -> VmFailure:
    return VmFailure(
        code,
        f"vm.remove-device: {device_id!a} {reason}",
        fields=(FieldError("/id", reason),),
    )
