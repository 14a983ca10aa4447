# SPDX-License-Identifier: Apache-2.0
"""Who did what: one line for each request that changes something, or was not allowed.

A line that cannot be written where it belongs goes to the server's log: nothing done is
untold, and a full disk does not stop anybody from shutting a VM down.
"""

from __future__ import annotations

import logging
import time
from http import HTTPMethod

import falcon

from api_server.audit_log import AuditSink
from api_server.log_lines import timestamp
from api_server.request import Request
from api_server.request_log import milliseconds_of, vm_of
from ipc_protocol.errors import ErrorCode

__all__ = ["Audit"]

_log = logging.getLogger(__name__)

_SHOWN = 80


class Audit:
    """Middleware that writes the lines, when it is known what came of a request."""

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink

    def process_response(
        self,
        req: Request,
        resp: falcon.Response,
        _resource: object,
        _succeeded: bool,  # noqa: FBT001 - Falcon's
    ) -> None:
        """Write the line of a request that is worth one."""
        context = req.context
        route, code = context.route, context.code
        changes = route is not None and route.method is HTTPMethod.PUT
        if not changes and code is not ErrorCode.FORBIDDEN:
            return
        peer = context.peer
        fields = {
            "time": timestamp(time.time()),
            "user": peer and peer.user,
            "uid": peer and peer.credentials.uid,
            "gid": peer and peer.credentials.gid,
            "pid": peer and peer.credentials.pid,
            "role": str(peer.role) if peer and peer.role else None,
            "operation": req.path.rpartition("/")[2][:_SHOWN],
            "query": req.query_string[:_SHOWN] or None,
            **vm_of(req),
            "status": falcon.http_status_to_code(resp.status),
            "code": code,
            "job": context.job,
            "duration_ms": milliseconds_of(req),
            "request_id": context.request_id,
        }
        try:
            self._sink.write(fields)
        except OSError as ex:
            _log.error(
                "the audit log cannot be written (%s); its line follows",
                ex,
                extra={"fields": fields},
            )
