# SPDX-License-Identifier: Apache-2.0
"""How a failure is told: its message, and the fields at fault underlined in their text."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ipc_protocol.errors import FieldError
from velumctl.display import printable
from velumctl.failures import Failure, Problem, Refusal
from velumctl.source import Source, Span

__all__ = ["tell"]


def tell(failure: Failure) -> None:
    """Write a failure to standard error."""
    for line in _lines(failure):
        click.echo(line, err=True)


def _red(text: str) -> str:
    return click.style(printable(text), fg="red")


def _lines(failure: Failure) -> Iterator[str]:
    yield f"{click.style('velumctl:', bold=True)} {_red(str(failure))}"
    if isinstance(failure, Refusal):
        yield from _details(failure.problem, failure.source)
    for note in failure.notes:
        yield f"  {note}"


def _details(problem: Problem, source: Source | None) -> Iterator[str]:
    for cause in problem.causes:
        yield f"  because: {printable(cause)}"
    places = [(source.find(error.pointer) if source else None, error) for error in problem.errors]
    if source is not None:
        found = ((span, error) for span, error in places if span is not None)
        for span, error in sorted(found, key=lambda place: place[0]):
            yield from _underlined(source, span, error)
    for error in (error for span, error in places if span is None):
        yield f"  {printable(error.pointer or '/')}: {printable(error.message)}"
    if problem.reference:
        yield f"  the worker's log says more: look for {printable(problem.reference)}"
    if problem.request_id:
        yield click.style(f"  request id: {printable(problem.request_id)}", dim=True)


def _underlined(source: Source, span: Span, error: FieldError) -> Iterator[str]:
    """Show the line that a field is on, as compilers do."""
    number = str(span.line + 1)
    margin = " " * len(number)
    line = source.text.split("\n")[span.line]
    # A tab before the place is as wide below it as above it.
    indent = "".join("\t" if each == "\t" else " " for each in line[: span.column])
    bar = click.style("|", fg="blue")
    arrow = click.style("-->", fg="blue")
    mark = _red(f"{'^' * span.width} {error.message}")
    place = f"{source.name}:{number}:{span.column + 1}"
    yield f" {margin}{arrow} {': '.join(filter(None, (place, printable(error.pointer))))}"
    yield f" {margin} {bar}"
    yield f" {click.style(number, fg='blue')} {bar} {line}"
    yield f" {margin} {bar} {indent}{mark}"
