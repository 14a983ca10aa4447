# SPDX-License-Identifier: Apache-2.0
"""Logging to standard error, in one format for our own lines and gunicorn's."""

from __future__ import annotations

import logging
import sys
from typing import Any

from gunicorn.glogging import Logger

__all__ = ["GunicornLog", "configure"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"


def configure(level: str) -> None:
    """Set up the root logger; the level is a name such as ``info``."""
    logging.basicConfig(format=_FORMAT, level=level.upper())


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
