# SPDX-License-Identifier: Apache-2.0
"""Errors of this process, raised as :class:`ApiFailure` and never twice described."""

from __future__ import annotations

import logging
import secrets

from ipc_protocol.errors import ApiError, ApiFailure, ErrorCode, FieldError, VmFailure

__all__ = ["explain", "failure"]

_log = logging.getLogger(__name__)


def failure(code: ErrorCode, message: str, *, fields: tuple[FieldError, ...] = ()) -> ApiFailure:
    """Build the exception for a reason of the API's own."""
    return ApiFailure(ApiError(code=code, message=message, fields=fields))


def explain(ex: BaseException) -> ApiError:
    """Turn whatever a request ended with into what its client is told.

    An exception that nobody foresaw is a fault of ours: its traceback goes to the log and only
    the reference to it goes out.
    """
    if isinstance(ex, ApiFailure):
        return ex.error
    if isinstance(ex, VmFailure):
        if ex.error.code is ErrorCode.INTERNAL:
            _log.error("internal error of a worker, reference %s", ex.error.reference)
        return ApiError.wrap(ex.error)
    reference = secrets.token_hex(8)
    _log.error("internal error, reference %s", reference, exc_info=ex)
    return ApiError(
        code=ErrorCode.INTERNAL,
        message="The API server failed on this request; its log has the details",
        reference=reference,
    )
