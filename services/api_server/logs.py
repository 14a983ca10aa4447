# SPDX-License-Identifier: Apache-2.0
"""Logging to standard error: one line a record, of ours and of gunicorn's, as logfmt or JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any

from gunicorn.glogging import Logger

from api_server.log_lines import LogFormat, encoder, timestamp
from api_server.request_ids import current_id

__all__ = ["GunicornLog", "StructuredFormatter", "configure"]


class StructuredFormatter(logging.Formatter):
    """Makes of a record its common fields, and of ``extra={"fields": {...}}`` the rest.

    What is logged on behalf of a request carries the id of that request.
    """

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._encode = encoder(form)

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
    # What no line has is not looked for (the logging HOWTO, "Optimization").
    logging._srcfile = ""  # noqa: SLF001 - documented there
    logging.logThreads = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


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
