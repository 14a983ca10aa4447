# SPDX-License-Identifier: Apache-2.0
"""The date of an answer, written once a second."""

from __future__ import annotations

import functools
import time
from email.utils import formatdate

__all__ = ["http_date"]


def http_date(timestamp: float | None = None) -> str:
    """Return a time as HTTP has it (RFC 9110 section 5.6.7); now, unless one is given."""
    return _spelled(int(time.time() if timestamp is None else timestamp))


@functools.lru_cache(maxsize=2)
def _spelled(timestamp: int) -> str:
    return formatdate(timestamp, usegmt=True)
