# SPDX-License-Identifier: Apache-2.0
"""Errors of this process, raised as :class:`ApiFailure` and never twice described."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus

import msgspec

from api_server.status import STATUS
from ipc_protocol.errors import ApiError, ApiFailure, ErrorCode, FieldError, VmFailure

__all__ = ["explain", "failure"]

_log = logging.getLogger(__name__)


def failure(code: ErrorCode, message: str, *, fields: tuple[FieldError, ...] = ()) -> ApiFailure:
    """Build the exception for a reason of the API's own."""
    return ApiFailure(ApiError(code=code, message=message, fields=fields))


def explain(ex: BaseException) -> ApiError:
    """Turn whatever a request ended with into what its client is told.

    A fault of ours goes to the log whole, and to the client as a reference to it; a worker's
    comes with the reference into the worker's log.
    """
    if isinstance(ex, ApiFailure):
        error = ex.error
    elif isinstance(ex, VmFailure):
        error = ApiError.wrap(ex.error)
    else:
        error = ApiError(
            code=ErrorCode.INTERNAL,
            message="the API server failed on this request; its log has the details",
        )
    if STATUS[error.code] is HTTPStatus.INTERNAL_SERVER_ERROR:
        if error.reference is None:
            error = msgspec.structs.replace(error, reference=secrets.token_hex(8))
        _log.error("internal error, reference %s", error.reference, exc_info=ex)
    return error
