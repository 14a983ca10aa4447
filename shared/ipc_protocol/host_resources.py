# SPDX-License-Identifier: Apache-2.0
"""Which fields of a request name a file or an interface of the host: those of certain types.

A worker opens them as itself, so whoever may name them may have what the worker may open.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator

import msgspec

from ipc_protocol.config_devices import Path, SocketPath, TapName

__all__ = ["host_resources"]

_TYPES = frozenset({Path, SocketPath, TapName})


def host_resources(value: object, pointer: str = "") -> Iterator[str]:
    """Find the JSON pointers of the fields of a request that name something of the host.

    A field that has its default names none: nobody chose it.
    """
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            given = getattr(value, field.name)
            if given is None or given == field.default:
                continue
            below = f"{pointer}/{field.encode_name}"
            if field.name in _named_fields(type(value)):
                yield below
            else:
                yield from host_resources(given, below)
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from host_resources(each, f"{pointer}/{index}")


@functools.cache
def _named_fields(kind: type) -> frozenset[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return frozenset(
        name for name, hint in hints.items() if {hint, *typing.get_args(hint)} & _TYPES
    )
