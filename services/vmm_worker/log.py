# SPDX-License-Identifier: Apache-2.0
"""Logging: one line a record on stderr, and no more of them than a guest should cause."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["RateLimit", "guest_logger", "log_for", "name_request", "set_up"]

BURST: Final = 10
PERIOD: Final = 60.0

_OF_PEERS: Final = ("ipc_protocol.connections",)
"""Loggers of what whoever connects can cause at will."""

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def set_up(level: str) -> None:
    """Send the log to stderr, in the form the reader of stderr wants.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    handler = logging.StreamHandler(sys.stderr)
    if _stderr_is_journal():
        handler.setFormatter(_JournalFormatter("%(message)s%(request)s"))
    else:
        handler.setFormatter(
            logging.Formatter(
                "%(asctime)s.%(msecs)03d %(levelname)s %(message)s%(request)s", "%Y-%m-%dT%H:%M:%S"
            )
        )
        if sys.stderr.isatty():
            # The terminal may be in raw mode for a guest, where \n alone only goes down.
            handler.terminator = "\r\n"
    handler.addFilter(name_request)
    for name in _OF_PEERS:
        _limit(logging.getLogger(name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


@contextmanager
def log_for(request_id: str) -> Iterator[None]:
    """Have each line end with the request that this thread logs it for, if there is one."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def guest_logger(name: str) -> logging.Logger:
    """Return a logger for what a guest can cause at will; its call sites are limited.

    Args:
        name: The module that logs.
    """
    return _limit(logging.getLogger(f"{name}.guest"))


class RateLimit(logging.Filter):
    """Lets a burst of records of each call site through in a period and counts the rest.

    A record may say what it is about (``extra={"device": ...}``): of each device, a call site
    has a burst, so that one that is noisy does not silence another.
    """

    def __init__(
        self,
        burst: int = BURST,
        period: float = PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._burst = burst
        self._period = period
        self._sites: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record may pass."""
        site = (record.pathname, record.lineno, getattr(record, "device", ""))
        now = self._clock()
        start, count = self._sites.get(site, (now, 0))
        if now - start >= self._period:
            suppressed = count - self._burst
            if suppressed > 0:
                record.msg = f"{record.msg} ({suppressed} like this one were not logged)"
            start, count = now, 0
        self._sites[site] = (start, count + 1)
        return count < self._burst


def _limit(logger: logging.Logger) -> logging.Logger:
    if not any(isinstance(one, RateLimit) for one in logger.filters):
        logger.addFilter(RateLimit())
    return logger


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front, as sd-daemon(3) has it; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        priority = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}.get(record.levelname, 2)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def name_request(record: logging.LogRecord) -> bool:
    """Give a record the request it is logged for, in the form in which a line ends with it."""
    request_id = _request_id.get()
    record.request = f" request_id={request_id}" if request_id else ""
    return True


def _stderr_is_journal() -> bool:
    """Compare stderr with what the service manager says it connected to the journal."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
