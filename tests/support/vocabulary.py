# SPDX-License-Identifier: Apache-2.0
"""What the messages between the processes are made of, by name, to compare two versions of it.

``python -m tests.support.vocabulary`` prints it.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec

from ipc_protocol.context import Context
from ipc_protocol.errors import VmError
from ipc_protocol.jobs import JobInfo
from ipc_protocol.messages import SIGNATURES

__all__ = ["types", "vocabulary"]


def types() -> dict[str, type]:
    """Return every struct and enumeration that a message may have, by name."""
    found: dict[str, type] = {}
    waiting: list[Any] = [Context, VmError, JobInfo]
    waiting += [each for one in SIGNATURES.values() for each in (one.request, one.result)]
    while waiting:
        each = waiting.pop()
        if isinstance(each, type) and issubclass(each, msgspec.Struct | Enum):
            if found.setdefault(each.__name__, each) is not each:
                raise ValueError(f"two types of messages have the name {each.__name__}")
            if issubclass(each, msgspec.Struct):
                waiting += [hint for hint in _hints(each) if hint not in found.values()]
        else:
            waiting += typing.get_args(each)
    return dict(sorted(found.items()))


def vocabulary() -> dict[str, Any]:
    """Return the operations, the members of each struct and the values of each enumeration."""
    return {
        "operations": {
            operation: [_name(signature.request), _name(signature.result)]
            for operation, signature in SIGNATURES.items()
        },
        "types": {
            name: [each.value for each in kind] if issubclass(kind, Enum) else _members(kind)
            for name, kind in types().items()
        },
    }


def _hints(kind: type) -> Iterator[Any]:
    hints = typing.get_type_hints(kind, include_extras=False)
    return (hints[name] for name in kind.__struct_fields__)  # type: ignore[attr-defined]


def _members(kind: type) -> list[str]:
    return [each.encode_name for each in msgspec.structs.fields(kind)]


def _name(kind: object) -> str | None:
    return kind.__name__ if isinstance(kind, type) else str(kind) if kind is not None else None


if __name__ == "__main__":
    json.dump(vocabulary(), sys.stdout, indent=1)
    sys.stdout.write("\n")
