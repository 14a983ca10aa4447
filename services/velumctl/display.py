# SPDX-License-Identifier: Apache-2.0
"""How answers look: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "as_json",
    "bytes_text",
    "console",
    "json_option",
    "make_table",
    "printable",
    "table",
]

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_UNBOUNDED: Final = 10_000

json_option = click.option(
    "--json", "as_document", is_flag=True, help="Print the API's answer itself."
)


def as_json(document: Any) -> None:
    """Print a document as JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def bytes_text(count: float) -> str:
    """Write a number of bytes with the unit that suits it."""
    for unit in _UNITS:
        if abs(count) < 1024 or unit == _UNITS[-1]:  # noqa: PLR2004 - a KiB
            break
        count /= 1024
    return f"{count:.4g} {unit}"


def printable(text: str) -> str:
    """Write what would move the cursor or worse in a way that does nothing."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def console() -> Console:
    """Return a console on standard output, which cuts no line of a pipe's."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return Console(width=width, highlight=False)


def table(
    header: Sequence[str] | None,
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[int] = (),
) -> None:
    """Print a table, as :func:`make_table` makes it."""
    console().print(make_table(header, rows, right=right))


def make_table(
    header: Sequence[str] | None,
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[int] = (),
) -> Table:
    """Return a table.

    Args:
        header: The names of its columns, if they need any.
        rows: The cells; nothing in them is taken for markup.
        right: The columns that are numbers.
    """
    made = Table(box=None, show_header=header is not None, pad_edge=False, header_style="bold")
    cells = [[Text(printable(cell)) for cell in row] for row in rows]
    columns = header or [""] * max(map(len, cells), default=0)
    for index, name in enumerate(columns):
        made.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in cells:
        made.add_row(*row)
    return made
