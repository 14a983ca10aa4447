# SPDX-License-Identifier: Apache-2.0
"""Which errors each route may answer with."""

from __future__ import annotations

from typing import Final

from api_server.routes import Missing, Route
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import SIGNATURES, Operation

__all__ = ["ANYWHERE", "ELSEWHERE", "OF_CHANGES", "OF_OPERATIONS", "ON_THE_WAY", "failures"]

ELSEWHERE: Final = frozenset({ErrorCode.ROUTE_NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED})
"""What is answered where there is no route."""

ANYWHERE: Final = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MALFORMED_JSON,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.FORBIDDEN,
        ErrorCode.INTERNAL,
    }
)
ON_THE_WAY: Final = frozenset(
    {
        ErrorCode.VM_UNKNOWN,
        ErrorCode.VMM_UNAVAILABLE,
        ErrorCode.VMM_TIMEOUT,
        ErrorCode.PROTOCOL_VERSION,
        ErrorCode.UNKNOWN_OPERATION,
        ErrorCode.MALFORMED_MESSAGE,
        ErrorCode.HOST_RESOURCE,
    }
)
"""Of a request that a worker is to answer."""
OF_CHANGES: Final = frozenset(
    {
        ErrorCode.OPERATION_IN_PROGRESS,
        ErrorCode.OPERATION_CANCELLED,
        ErrorCode.IDEMPOTENCY_CONFLICT,
    }
)

_CONFIG: Final = frozenset(
    {ErrorCode.INVALID_CONFIG, ErrorCode.DUPLICATE_ID, ErrorCode.NOT_SUPPORTED}
)
_BUILD: Final = frozenset(
    {
        ErrorCode.KVM_UNAVAILABLE,
        ErrorCode.FILE_UNAVAILABLE,
        ErrorCode.INVALID_KERNEL,
        ErrorCode.INITRAMFS_TOO_LARGE,
        ErrorCode.CMDLINE_TOO_LONG,
        ErrorCode.MEMORY_UNAVAILABLE,
        ErrorCode.TOO_MANY_VCPUS,
    }
)
_STOPPED: Final = frozenset({ErrorCode.VM_NOT_CREATED, ErrorCode.VM_NOT_RUNNING})

OF_OPERATIONS: Final[dict[Operation, frozenset[ErrorCode]]] = {
    Operation.VMM_PING: frozenset(),
    Operation.VMM_SHUTDOWN: frozenset(),
    Operation.VMM_JOBS: frozenset(),
    Operation.VMM_CANCEL: frozenset({ErrorCode.JOB_UNKNOWN, ErrorCode.JOB_FINISHED}),
    Operation.VM_CREATE: _CONFIG | _BUILD | {ErrorCode.VM_ALREADY_CREATED},
    Operation.VM_BOOT: _BUILD | {ErrorCode.VM_NOT_CREATED, ErrorCode.VM_ALREADY_RUNNING},
    Operation.VM_INFO: frozenset({ErrorCode.VM_NOT_CREATED}),
    Operation.VM_COUNTERS: _STOPPED,
    Operation.VM_PAUSE: _STOPPED | {ErrorCode.VM_ALREADY_PAUSED},
    Operation.VM_RESUME: _STOPPED | {ErrorCode.VM_NOT_PAUSED},
    Operation.VM_SHUTDOWN: _STOPPED,
    Operation.VM_REBOOT: _STOPPED | _BUILD,
    Operation.VM_DELETE: frozenset(),
    Operation.VM_POWER_BUTTON: _STOPPED,
    Operation.VM_NMI: _STOPPED,
    Operation.VM_RESIZE: frozenset({ErrorCode.VM_NOT_CREATED, ErrorCode.NOT_SUPPORTED}),
    Operation.VM_ADD_DISK: _CONFIG | {ErrorCode.VM_NOT_CREATED},
    Operation.VM_ADD_NET: _CONFIG | {ErrorCode.VM_NOT_CREATED},
    Operation.VM_ADD_PMEM: _CONFIG | {ErrorCode.VM_NOT_CREATED},
    Operation.VM_ADD_VSOCK: _CONFIG | {ErrorCode.VM_NOT_CREATED},
    Operation.VM_REMOVE_DEVICE: frozenset(
        {ErrorCode.VM_NOT_CREATED, ErrorCode.DEVICE_UNKNOWN, ErrorCode.NOT_SUPPORTED}
    ),
}
"""What is an operation's own, beside what may happen to any."""


def failures(route: Route, own: frozenset[ErrorCode] = frozenset()) -> frozenset[ErrorCode]:
    """Return every code that a route may answer with, with those it has by itself."""
    if isinstance(route.endpoint, Missing):
        return ANYWHERE | {ErrorCode.NOT_SUPPORTED}
    if not isinstance(route.endpoint, Operation):
        return ANYWHERE | own
    changes = OF_CHANGES if SIGNATURES[route.endpoint].is_job else frozenset()
    return ANYWHERE | ON_THE_WAY | changes | OF_OPERATIONS[route.endpoint] | own
