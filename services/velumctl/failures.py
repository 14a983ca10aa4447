# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and the exit code that scripts tell it by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Final

import msgspec

from ipc_protocol.errors import ErrorCode, FieldError, VmError
from velumctl.source import Source

__all__ = ["OF_JOBS", "ExitCode", "Failure", "Problem", "Refusal"]


class ExitCode(IntEnum):
    """How a command ended; documented in ``docs/velumctl.md``."""

    DONE = 0
    FAILED = 1
    """The host could not do it, it is not built, or there is a fault of ours."""
    USAGE = 2
    """The command line is wrong; nothing was asked for."""
    INVALID = 3
    """The configuration or another part of the request is not valid."""
    NOT_FOUND = 4
    """There is no such VM, device or job."""
    CONFLICT = 5
    """The VM's state does not allow it, or something else is at work or has the id."""
    FORBIDDEN = 6
    """The caller may not do this."""
    UNAVAILABLE = 7
    """The API server or the VM's worker is not there."""
    TIMED_OUT = 8
    """It did not happen, or was not answered, in time."""
    INTERRUPTED = 130
    """By Ctrl-C, as shells count it."""


_BY_STATUS: Final[Mapping[int, ExitCode]] = {
    HTTPStatus.BAD_REQUEST: ExitCode.INVALID,
    HTTPStatus.FORBIDDEN: ExitCode.FORBIDDEN,
    HTTPStatus.NOT_FOUND: ExitCode.NOT_FOUND,
    HTTPStatus.CONFLICT: ExitCode.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ExitCode.INVALID,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ExitCode.INVALID,
    HTTPStatus.TOO_MANY_REQUESTS: ExitCode.CONFLICT,
    HTTPStatus.SERVICE_UNAVAILABLE: ExitCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: ExitCode.TIMED_OUT,
}

OF_JOBS: Final[Mapping[str, ExitCode]] = {
    ErrorCode.INVALID_REQUEST: ExitCode.INVALID,
    ErrorCode.INVALID_CONFIG: ExitCode.INVALID,
    ErrorCode.DUPLICATE_ID: ExitCode.CONFLICT,
    ErrorCode.VM_NOT_CREATED: ExitCode.NOT_FOUND,
    ErrorCode.VM_ALREADY_CREATED: ExitCode.CONFLICT,
    ErrorCode.VM_NOT_RUNNING: ExitCode.CONFLICT,
    ErrorCode.VM_ALREADY_RUNNING: ExitCode.CONFLICT,
    ErrorCode.VM_ALREADY_PAUSED: ExitCode.CONFLICT,
    ErrorCode.VM_NOT_PAUSED: ExitCode.CONFLICT,
    ErrorCode.OPERATION_IN_PROGRESS: ExitCode.CONFLICT,
    ErrorCode.OPERATION_CANCELLED: ExitCode.CONFLICT,
    "device_unknown": ExitCode.NOT_FOUND,
    ErrorCode.VMM_UNAVAILABLE: ExitCode.UNAVAILABLE,
    ErrorCode.VMM_TIMEOUT: ExitCode.TIMED_OUT,
}
"""What a job can end with: its error has a code, and no status."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says went wrong; members of newer servers are passed over."""

    detail: str
    code: str = ""
    status: int = 0
    causes: tuple[str, ...] = ()
    errors: tuple[FieldError, ...] = ()
    reference: str = ""
    """What to look for in the worker's log."""
    request_id: str = ""

    @classmethod
    def of(cls, error: VmError, request_id: str) -> Problem:
        """Return what a job ended with."""
        return cls(
            detail=error.message,
            code=error.code,
            causes=error.causes,
            errors=error.fields,
            reference=error.reference or "",
            request_id=request_id,
        )

    @property
    def exit_code(self) -> ExitCode:
        """What a script is told."""
        by_code = OF_JOBS.get(self.code, ExitCode.FAILED)
        return _BY_STATUS.get(self.status, ExitCode.FAILED) if self.status else by_code


class Failure(Exception):  # noqa: N818 - an end of the command, not always an error
    """The command cannot do what it was asked for; the text is for people."""

    def __init__(self, exit_code: ExitCode, message: str, *notes: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.notes = notes
        """More lines below the message."""

    @property
    def is_loss(self) -> bool:
        """Whether the API server is not there, or no longer."""
        return self.exit_code is ExitCode.UNAVAILABLE


class Refusal(Failure):
    """The server said no.

    Args:
        problem: What it said.
        source: The text of the document that was sent, if one was.
    """

    def __init__(self, problem: Problem, source: Source | None = None) -> None:
        super().__init__(problem.exit_code, problem.detail)
        self.problem = problem
        self.source = source

    @property
    def is_loss(self) -> bool:
        """It is there, as it answers."""
        return False
