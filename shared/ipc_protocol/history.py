# SPDX-License-Identifier: Apache-2.0
"""What the present version of the protocol has that the one before it lacks.

Messages only ever gain members, operations and values of enumerations between two versions. Each
new member has a default, which is what a message of the previous version means by not having it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec.structs import fields

from ipc_protocol.codec import to_plain
from ipc_protocol.config import VmConfig
from ipc_protocol.messages import VmmPing
from ipc_protocol.metrics import IpcMetrics

__all__ = ["NEW_MEMBERS", "NEW_VALUES", "previous_form"]

NEW_MEMBERS: Final[Mapping[type, frozenset[str]]] = {
    IpcMetrics: frozenset({"connections", "ended"}),
    VmConfig: frozenset({"landlock_enable", "landlock_rules"}),
    VmmPing: frozenset({"protocol"}),
}
"""By type."""

NEW_VALUES: Final[Mapping[Enum, Enum]] = {}
"""Each with the one that says the most of it to who does not know it."""


def previous_form(value: object) -> tuple[Any, list[str]]:
    """Return a value as the previous version has it, and where that says less.

    Args:
        value: Of a message, made of structs, enumerations and plain types.

    Returns:
        Plain types, and the JSON pointers of what was left out although it is no default.

    Raises:
        VmFailure: ``malformed_message`` if it is made of something else.
    """
    less: list[str] = []
    return _previous(value, to_plain(value), "", less), less


def _previous(value: object, plain: Any, pointer: str, less: list[str]) -> Any:
    if isinstance(value, msgspec.Struct):
        return _struct(value, plain, pointer, less)
    if isinstance(value, list | tuple):
        pairs = enumerate(zip(value, plain, strict=True))
        return [_previous(each, its, f"{pointer}/{index}", less) for index, (each, its) in pairs]
    if isinstance(value, dict):
        return {
            key: _previous(each, plain[key], f"{pointer}/{key}", less)
            for member, each in value.items()
            if member not in NEW_VALUES
            for key in (member.value if isinstance(member, Enum) else member,)
        }
    if isinstance(value, Enum) and value in NEW_VALUES:
        less.append(pointer)
        return NEW_VALUES[value].value
    return plain


def _struct(value: msgspec.Struct, plain: Any, pointer: str, less: list[str]) -> dict[str, Any]:
    new = NEW_MEMBERS.get(type(value), frozenset())
    form: dict[str, Any] = {}
    for each in fields(value):
        member = getattr(value, each.name)
        place = f"{pointer}/{each.encode_name}"
        if each.name not in new:
            if each.encode_name in plain:
                form[each.encode_name] = _previous(member, plain[each.encode_name], place, less)
        elif member != _default(each):
            less.append(place)
    return form


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
