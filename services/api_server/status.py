# SPDX-License-Identifier: Apache-2.0
"""The one table from error code to HTTP status."""

from __future__ import annotations

from http import HTTPStatus

from ipc_protocol.errors import ErrorCode

__all__ = ["STATUS"]

STATUS: dict[ErrorCode, HTTPStatus] = {
    # The request itself.
    ErrorCode.MALFORMED_JSON: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_CONFIG: HTTPStatus.BAD_REQUEST,
    ErrorCode.DUPLICATE_ID: HTTPStatus.CONFLICT,
    ErrorCode.PAYLOAD_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.ROUTE_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.NOT_SUPPORTED: HTTPStatus.NOT_IMPLEMENTED,
    # The VM and its state.
    ErrorCode.VM_UNKNOWN: HTTPStatus.NOT_FOUND,
    ErrorCode.VM_NOT_CREATED: HTTPStatus.NOT_FOUND,
    ErrorCode.VM_ALREADY_CREATED: HTTPStatus.CONFLICT,
    ErrorCode.VM_NOT_RUNNING: HTTPStatus.CONFLICT,
    ErrorCode.VM_ALREADY_RUNNING: HTTPStatus.CONFLICT,
    ErrorCode.VM_ALREADY_PAUSED: HTTPStatus.CONFLICT,
    ErrorCode.VM_NOT_PAUSED: HTTPStatus.CONFLICT,
    ErrorCode.DEVICE_UNKNOWN: HTTPStatus.NOT_FOUND,
    ErrorCode.OPERATION_IN_PROGRESS: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.OPERATION_CANCELLED: HTTPStatus.CONFLICT,
    ErrorCode.IDEMPOTENCY_CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.JOB_UNKNOWN: HTTPStatus.NOT_FOUND,
    ErrorCode.JOB_FINISHED: HTTPStatus.CONFLICT,
    ErrorCode.TOO_MANY_READERS: HTTPStatus.SERVICE_UNAVAILABLE,
    # What this host cannot do.
    ErrorCode.KVM_UNAVAILABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.FILE_UNAVAILABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.INVALID_KERNEL: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.INITRAMFS_TOO_LARGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.CMDLINE_TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.MEMORY_UNAVAILABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.TOO_MANY_VCPUS: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.HOST_RESOURCE: HTTPStatus.UNPROCESSABLE_ENTITY,
    # The way between the processes. A worker of another protocol version is as good as away
    # until one of the two is upgraded; an operation that it does not know is one that is not
    # built in it; a message that it cannot read is a fault of ours.
    ErrorCode.VMM_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.VMM_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    ErrorCode.PROTOCOL_VERSION: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.UNKNOWN_OPERATION: HTTPStatus.NOT_IMPLEMENTED,
    ErrorCode.MALFORMED_MESSAGE: HTTPStatus.INTERNAL_SERVER_ERROR,
    # Ours.
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
