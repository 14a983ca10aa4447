# SPDX-License-Identifier: Apache-2.0
"""One line of ``key=value`` pairs, which people read and machines parse."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

__all__ = ["logfmt"]

_PLAIN = re.compile(r"[!#-<>-~]+")
"""Printable ASCII without space, quote and equals sign."""


def logfmt(fields: Mapping[str, object]) -> str:
    """Return the line; a value that is not set is left out, and none can end the line."""
    return " ".join(f"{key}={_value(each)}" for key, each in fields.items() if each is not None)


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
