# SPDX-License-Identifier: Apache-2.0
"""One line of log for each request."""

from __future__ import annotations

import logging
import time
from typing import Any

import falcon

from api_server.request import Request

__all__ = ["RequestLog", "milliseconds_of", "vm_of"]

_log = logging.getLogger(__name__)

_TARGET_SHOWN = 200
_HOST_SHOWN = 80


class RequestLog:
    """Middleware that logs what was asked by whom, what came of it, and how long it took."""

    def process_response(
        self,
        req: Request,
        resp: falcon.Response,
        _resource: object,
        _succeeded: bool,  # noqa: FBT001 - Falcon's
    ) -> None:
        """Log the request; its answer is sent next."""
        if not _log.isEnabledFor(logging.INFO):
            return
        context = req.context
        peer = context.peer
        fields: dict[str, Any] = {
            "method": req.method,
            # The raw target: gunicorn has refused control characters in it, a decoded one
            # has them.
            "target": req.env["RAW_URI"][:_TARGET_SHOWN],
            "status": falcon.http_status_to_code(resp.status),
            "code": context.code,
            "duration_ms": milliseconds_of(req),
            **vm_of(req),
            "uid": peer and peer.credentials.uid,
            "peer_pid": peer and peer.credentials.pid,
        }
        _log.info("request", extra={"fields": fields})


def milliseconds_of(req: Request) -> float:
    """Return how long a request has taken so far."""
    return round((time.perf_counter() - req.context.started) * 1000, 3)


def vm_of(req: Request) -> dict[str, str]:
    """Return which VM a request is for, or the host it named where that is none."""
    if req.context.vm is not None:
        return {"vm": req.context.vm}
    return {"host": (req.get_header("Host") or "")[:_HOST_SHOWN]}
