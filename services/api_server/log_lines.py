# SPDX-License-Identifier: Apache-2.0
"""One line of named values, which people read and machines parse."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Mapping
from enum import StrEnum

__all__ = ["LogFormat", "encoder", "logfmt", "timestamp"]

_PLAIN = re.compile(r"[!#-<>-~]+")
"""Printable ASCII without space, quote and equals sign."""


class LogFormat(StrEnum):
    """How a line looks."""

    LOGFMT = "logfmt"
    JSON = "json"


def encoder(form: LogFormat) -> Callable[[Mapping[str, object]], str]:
    """Return what makes a line of fields; one that is not set is left out."""
    return logfmt if form is LogFormat.LOGFMT else _json


def timestamp(seconds: float) -> str:
    """Return a moment since the epoch as RFC 3339 has it, in UTC and to the millisecond."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{milliseconds:03d}Z"


@functools.lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def logfmt(fields: Mapping[str, object]) -> str:
    """Return ``key=value`` pairs; no value can forge a pair or end the line."""
    return " ".join(f"{key}={_value(each)}" for key, each in fields.items() if each is not None)


def _value(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _json(fields: Mapping[str, object]) -> str:
    given = {key: value for key, value in fields.items() if value is not None}
    # In ASCII: a path of the host may have bytes that are not UTF-8.
    return json.dumps(given, default=str)
