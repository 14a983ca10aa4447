# SPDX-License-Identifier: Apache-2.0
"""Logging to standard error: one line a record, of ours and of gunicorn's, as logfmt or JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from gunicorn.glogging import Logger

from api_server.logfmt import logfmt
from api_server.request_ids import current_id

__all__ = ["GunicornLog", "LogFormat", "StructuredFormatter", "configure", "timestamp"]


class LogFormat(StrEnum):
    """How a line looks."""

    LOGFMT = "logfmt"
    JSON = "json"


def timestamp(seconds: float) -> str:
    """Return a moment since the epoch as RFC 3339 has it, in UTC and to the millisecond."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


class StructuredFormatter(logging.Formatter):
    """Makes of a record its common fields, and of ``extra={"fields": {...}}`` the rest.

    What is logged on behalf of a request carries the id of that request.
    """

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._encode: Callable[[Mapping[str, object]], str] = (
            logfmt if form is LogFormat.LOGFMT else _json
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        fields.setdefault("request_id", current_id() or None)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._encode(fields)


def configure(level: str, form: LogFormat = LogFormat.LOGFMT) -> None:
    """Set up the root logger; the level is a name such as ``info``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(StructuredFormatter(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _json(fields: Mapping[str, object]) -> str:
    given = {key: value for key, value in fields.items() if value is not None}
    # In ASCII: a path of the host may have bytes that are not UTF-8.
    return json.dumps(given, default=str)


class GunicornLog(Logger):
    """Passes gunicorn's messages on to the root logger; requests are logged by the app."""

    def setup(self, cfg: Any) -> None:
        """Take over from gunicorn, which would add handlers of its own."""
        self.cfg = cfg
        self._access_log_enabled = False
        # Its INFO is about its own starting and stopping, which ours says already.
        root = logging.getLogger()
        if not root.isEnabledFor(logging.DEBUG):
            self.error_log.setLevel(logging.WARNING)
        self.error_log.propagate = True

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log an exception, unless it is a client that stalls, which is its own business."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("gave up a client that stalled in the middle of a request")
        else:
            super().exception(msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Log nothing."""
