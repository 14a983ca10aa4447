# SPDX-License-Identifier: Apache-2.0
"""What each error code says to a client."""

from __future__ import annotations

from ipc_protocol.errors import ErrorCode

__all__ = ["MEANINGS"]

MEANINGS: dict[ErrorCode, str] = {
    ErrorCode.MALFORMED_JSON: "the body is not one unambiguous JSON document; the line and column "
    "are named",
    ErrorCode.INVALID_REQUEST: "a header, a query parameter or the body is not what this endpoint "
    "takes",
    ErrorCode.INVALID_CONFIG: "fields of the configuration are wrong; `errors` has all of them",
    ErrorCode.DUPLICATE_ID: "an id in the configuration is taken; `errors` has which",
    ErrorCode.PAYLOAD_TOO_LARGE: "the body is larger than 4 MiB",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "the body says of itself that it is not JSON in UTF-8",
    ErrorCode.ROUTE_NOT_FOUND: "there is no such path in this API",
    ErrorCode.METHOD_NOT_ALLOWED: "the path takes another method, which `Allow` names",
    ErrorCode.FORBIDDEN: "the client's role does not allow this",
    ErrorCode.NOT_SUPPORTED: "part of the specification, and not built yet",
    ErrorCode.VM_UNKNOWN: "no VM has the name in `Host`",
    ErrorCode.VM_NOT_CREATED: "there is no VM yet; `vm.create` makes one",
    ErrorCode.VM_ALREADY_CREATED: "there is a VM already; `vm.delete` removes it",
    ErrorCode.VM_NOT_RUNNING: "the VM is not booted; `vm.boot` starts it",
    ErrorCode.VM_ALREADY_RUNNING: "the VM is booted already",
    ErrorCode.VM_ALREADY_PAUSED: "the VM is paused already",
    ErrorCode.VM_NOT_PAUSED: "the VM is not paused",
    ErrorCode.DEVICE_UNKNOWN: "the VM has no device of that id",
    ErrorCode.OPERATION_IN_PROGRESS: "an operation of the same kind is not finished; try again",
    ErrorCode.OPERATION_CANCELLED: "the operation was cancelled before its end",
    ErrorCode.IDEMPOTENCY_CONFLICT: "the `Idempotency-Key` was used for another request",
    ErrorCode.JOB_UNKNOWN: "there is no job of that id, or no longer",
    ErrorCode.JOB_FINISHED: "the job has ended already",
    ErrorCode.TOO_MANY_READERS: "as many clients read events as may",
    ErrorCode.KVM_UNAVAILABLE: "the worker cannot use `/dev/kvm`",
    ErrorCode.FILE_UNAVAILABLE: "a file of the configuration cannot be opened or used",
    ErrorCode.INVALID_KERNEL: "the kernel is no image that can be booted",
    ErrorCode.INITRAMFS_TOO_LARGE: "the initramfs does not fit into the guest's RAM",
    ErrorCode.CMDLINE_TOO_LONG: "the kernel takes no command line of that length",
    ErrorCode.MEMORY_UNAVAILABLE: "the host does not have the memory",
    ErrorCode.TOO_MANY_VCPUS: "the host's KVM does not have that many vCPUs",
    ErrorCode.HOST_RESOURCE: "the host refused something else that is needed; `causes` has what",
    ErrorCode.VMM_UNAVAILABLE: "the VM's worker is not there; repeat the request after "
    "`Retry-After` seconds",
    ErrorCode.VMM_TIMEOUT: "the worker did not answer in time; the operation may still complete",
    ErrorCode.PROTOCOL_VERSION: "API server and worker are of releases too far apart",
    ErrorCode.UNKNOWN_OPERATION: "the worker is of a release without this operation",
    ErrorCode.MALFORMED_MESSAGE: "API server and worker misunderstand each other: a fault of "
    "Velum's",
    ErrorCode.INTERNAL: "a fault of Velum's; `reference` is where to look in the log",
}
