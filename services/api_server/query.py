# SPDX-License-Identifier: Apache-2.0
"""The query parameters a route takes; any other is a mistake that is told, not ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from api_server.failure import failure
from ipc_protocol.errors import ErrorCode

__all__ = ["COMPAT", "DRY_RUN", "LENIENT", "Parameter", "read_query"]

_MOST = 16
_SHOWN = 80


class Parameter(NamedTuple):
    """One of a fixed set of words; the first stands when none is given."""

    name: str
    choices: tuple[str, ...]
    description: str


DRY_RUN = Parameter(
    "dry_run",
    ("false", "true"),
    "With `true` nothing changes: the configuration is checked, and so is what this host has of "
    "it, such as its files, and all that is missing is told at once. Without, files are looked at "
    "when the VM is booted; until then they may still be made.",
)
LENIENT = "lenient"
COMPAT = Parameter(
    "compat",
    ("strict", LENIENT),
    "With `lenient`, for clients that send more than this API has, unknown fields of the body are "
    "left out instead of refused; the header `X-Velum-Ignored` names them.",
)


def read_query(text: str, parameters: Iterable[Parameter]) -> Mapping[str, str]:
    """Return the value of every parameter, in ``text`` or by default."""
    known = {each.name: each for each in parameters}
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST)
    except ValueError as ex:
        raise _refusal(f"there are more than {_MOST} query parameters") from ex
    for name, value in pairs:
        parameter = known.get(name)
        if parameter is None:
            taken = ", ".join(known) or "none"
            raise _refusal(
                f"there is no query parameter {name[:_SHOWN]!a} here (known here: {taken})"
            )
        if value not in parameter.choices:
            raise _refusal(
                f"the query parameter {name} is {' or '.join(parameter.choices)}, "
                f"not {value[:_SHOWN]!a}"
            )
        if name in found:
            raise _refusal(f"the query parameter {name} is given twice")
        found[name] = value
    return {name: found.get(name, each.choices[0]) for name, each in known.items()}


def _refusal(message: str) -> Exception:
    return failure(ErrorCode.INVALID_REQUEST, message)
