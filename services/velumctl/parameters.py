# SPDX-License-Identifier: Apache-2.0
"""Arguments in cloud-hypervisor's syntax, as types of click's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from ipc_protocol.options import OptionError, Options, parse
from velumctl.documents import Document, from_options

__all__ = ["SIZE", "Parameters", "Value", "reader"]


class Value(click.ParamType[Any]):
    """What a function makes of the text."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except OptionError as ex:
            self.fail(str(ex), param, ctx)


class Parameters(Value):
    """The body of a request as ``key=value,key=value``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Document:
        """Read what was typed, and write it as the document it stands for."""
        return from_options(super().convert(value, param, ctx))


def reader(keys: Mapping[str, Callable[[Options, str], object]]) -> Callable[[str], Any]:
    """Make a reader of a document that we send and know nothing more about.

    Args:
        keys: Its fields, each with what its value is.
    """

    def read(text: str) -> dict[str, object]:
        options = parse(text, keys=keys)
        given = {name: read_value(options, name) for name, read_value in keys.items()}
        return {name: value for name, value in given.items() if value is not None}

    return read


def _size(text: str) -> int | None:
    return parse(f"size={text}", keys=("size",)).size("size")


SIZE: Final = Value("size", _size)
"""A number of bytes, which may end in K, M or G."""
