# SPDX-License-Identifier: Apache-2.0
"""How a value becomes the body of an answer."""

from __future__ import annotations

from typing import Any

import falcon
import msgspec

__all__ = ["answer_json", "plain"]


def answer_json(resp: falcon.Response, value: object) -> None:
    """Make a value the body of a response; of structs, only what is set."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(plain(value))


def plain(value: object) -> Any:
    """Return a value as JSON has it, of structs only what is set."""
    return _without_nulls(msgspec.to_builtins(value))


def _without_nulls(value: Any) -> Any:
    """Leave out what is not set, as the specification's server does: absent, not null."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
