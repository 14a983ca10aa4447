# SPDX-License-Identifier: Apache-2.0
"""Every error that may cross a process boundary, as a value and as an exception.

A :class:`VmError` is what a VM operation answers instead of a value, an
:class:`ApiError` what an API routine answers; the second may wrap the first. Inside a
process both travel as exceptions (:class:`VmFailure`, :class:`ApiFailure`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "ApiError",
    "ApiFailure",
    "ErrorCode",
    "FieldError",
    "VmError",
    "VmFailure",
]


class ErrorCode(StrEnum):
    """Stable slugs; clients switch on these, so none is ever renamed."""

    # The request itself.
    MALFORMED_JSON = "malformed_json"
    INVALID_REQUEST = "invalid_request"
    INVALID_CONFIG = "invalid_config"
    DUPLICATE_ID = "duplicate_id"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    FORBIDDEN = "forbidden"
    NOT_SUPPORTED = "not_supported"
    # The VM and its state.
    VM_UNKNOWN = "vm_unknown"
    VM_NOT_CREATED = "vm_not_created"
    VM_ALREADY_CREATED = "vm_already_created"
    VM_NOT_RUNNING = "vm_not_running"
    VM_ALREADY_RUNNING = "vm_already_running"
    VM_ALREADY_PAUSED = "vm_already_paused"
    VM_NOT_PAUSED = "vm_not_paused"
    DEVICE_UNKNOWN = "device_unknown"
    OPERATION_IN_PROGRESS = "operation_in_progress"
    OPERATION_CANCELLED = "operation_cancelled"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    JOB_UNKNOWN = "job_unknown"
    JOB_FINISHED = "job_finished"
    TOO_MANY_READERS = "too_many_readers"
    # What this host cannot do.
    KVM_UNAVAILABLE = "kvm_unavailable"
    FILE_UNAVAILABLE = "file_unavailable"
    INVALID_KERNEL = "invalid_kernel"
    INITRAMFS_TOO_LARGE = "initramfs_too_large"
    CMDLINE_TOO_LONG = "cmdline_too_long"
    MEMORY_UNAVAILABLE = "memory_unavailable"
    TOO_MANY_VCPUS = "too_many_vcpus"
    HOST_RESOURCE = "host_resource"
    # The way between the processes.
    VMM_UNAVAILABLE = "vmm_unavailable"
    VMM_TIMEOUT = "vmm_timeout"
    PROTOCOL_VERSION = "protocol_version"
    UNKNOWN_OPERATION = "unknown_operation"
    MALFORMED_MESSAGE = "malformed_message"
    # Ours.
    INTERNAL = "internal"


class FieldError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One invalid field of a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the request body; "" is the whole body."""
    message: str
    """What is wrong with it and what would be right."""


class VmError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a VM operation failed."""

    code: ErrorCode
    message: str
    """One sentence for people; names the file, field or value and the way out."""
    causes: tuple[str, ...] = ()
    """The chain of reasons below ``message``, outermost first, root last."""
    fields: tuple[FieldError, ...] = ()
    """All fields at fault, when the configuration or the request body is."""
    reference: str | None = None
    """For ``internal``: what to look for in the worker's log."""


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """Why an API routine failed: its own reason, or the VM error it carries whole."""

    code: ErrorCode
    message: str
    causes: tuple[str, ...] = ()
    fields: tuple[FieldError, ...] = ()
    reference: str | None = None
    vm_error: VmError | None = None

    @classmethod
    def wrap(cls, error: VmError) -> ApiError:
        """Carry a VM error up to the caller with nothing lost."""
        return cls(
            code=error.code,
            message=error.message,
            causes=error.causes,
            fields=error.fields,
            reference=error.reference,
            vm_error=error,
        )


class VmFailure(Exception):  # noqa: N818 - the value is the Error, this is its flight
    """A :class:`VmError` on its way up inside a process."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        causes: tuple[str, ...] = (),
        fields: tuple[FieldError, ...] = (),
        reference: str | None = None,
    ) -> None:
        message = _printable(message)
        super().__init__(message)
        self.error = VmError(
            code=code,
            message=message,
            causes=tuple(map(_printable, causes)),
            fields=tuple(FieldError(each.pointer, _printable(each.message)) for each in fields),
            reference=reference,
        )

    @classmethod
    def of(cls, error: VmError) -> VmFailure:
        """The exception for an error value that arrived from elsewhere."""
        return cls(
            error.code,
            error.message,
            causes=error.causes,
            fields=error.fields,
            reference=error.reference,
        )

    @classmethod
    def of_host(cls, message: str, ex: OSError) -> VmFailure:
        """What the host refused, and why."""
        return cls(ErrorCode.HOST_RESOURCE, message, causes=(ex.strerror or str(ex),))

    def at(self, pointer: str) -> VmFailure:
        """The same failure, of the field that a JSON pointer names."""
        error = self.error
        return VmFailure(
            error.code,
            f"{pointer}: {error.message}",
            causes=error.causes,
            fields=(FieldError(pointer, error.message),),
        )


class ApiFailure(Exception):  # noqa: N818 - as above
    """An :class:`ApiError` on its way up inside a process."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def _printable(text: str) -> str:
    """Escape what would end a line of log or command a terminal: clients choose paths and names."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
