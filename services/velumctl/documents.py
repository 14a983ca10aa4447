# SPDX-License-Identifier: Apache-2.0
"""Configurations as people write them: files of JSON, YAML or TOML."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from ipc_protocol.errors import FieldError
from velumctl import yaml12
from velumctl.failures import ExitCode, Failure, Problem, Refusal
from velumctl.source import Source, Span
from velumctl.spans import DuplicateKeyError, json_spans, toml_spans

__all__ = ["Document", "Format", "from_options", "parse", "read"]

_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class Format(StrEnum):
    """How a document is written."""

    JSON = "json"
    YAML = "yaml"
    TOML = "toml"


class Document(NamedTuple):
    """The body of a request, and the text that it was made of."""

    value: Any
    source: Source


class _MalformedError(ValueError):
    """A text that is not what its format says, with the place (from 1)."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.span = Span(max(0, line - 1), max(0, column - 1), 1)


def read(path: str, form: Format | None = None) -> Document:
    """Read a file, or standard input for ``-``.

    Args:
        path: Where it is.
        form: What it is; by the file's suffix when ``None``, and JSON on standard input.

    Raises:
        Failure: It cannot be read, or is not what it should be.
    """
    name = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = data.decode()
    except OSError as ex:
        raise Failure(ExitCode.INVALID, f"{name} cannot be read: {ex.strerror}") from ex
    except UnicodeDecodeError as ex:
        raise Failure(ExitCode.INVALID, f"{name} is not text in UTF-8: {ex}") from ex
    return parse(name, text, form or _format_of(path))


def parse(name: str, text: str, form: Format) -> Document:
    """Return the document in a text.

    Raises:
        Failure: It is none.
    """
    parser, spans = _FORMATS[form]
    try:
        value = parser(text)
        spans(text)
    except (_MalformedError, DuplicateKeyError) as ex:
        place = {"": ex.span}
        problem = Problem(
            detail=f"{name} is not the {form.upper()} document that it should be",
            status=HTTPStatus.BAD_REQUEST,
            errors=(FieldError("", str(ex)),),
        )
        raise Refusal(problem, Source(name, text, lambda _: place)) from ex
    except RecursionError as ex:
        raise Failure(ExitCode.INVALID, f"{name} is nested too deeply") from ex
    if isinstance(value, dict):
        # Where editors look for the schema; it says nothing about the VM.
        value.pop("$schema", None)
    return Document(value, Source(name, text, spans))


def from_options(value: msgspec.Struct | Mapping[str, object]) -> Document:
    """Return what options made, without what is the default anyway, written as JSON."""
    given = _given(value)
    text = json.dumps(given, indent=2)
    return Document(given, Source("what the options make", text, json_spans))


def _given(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: _given(each)
            for field in msgspec.structs.fields(value)
            if (each := getattr(value, field.name)) != field.default
        }
    if isinstance(value, Mapping):
        return {name: _given(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_given(each) for each in value]
    return msgspec.to_builtins(value)


def _format_of(path: str) -> Format:
    suffix = Path(path).suffix.lower()
    form = _SUFFIXES.get(Format.JSON if path == "-" else suffix.removeprefix("."))
    if form is None:
        raise Failure(
            ExitCode.USAGE,
            f"{path}: its suffix does not say what it is; give --format json, yaml or toml",
        )
    return form


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as ex:
        raise _MalformedError(ex.msg, ex.lineno, ex.colno) from ex


def _yaml(text: str) -> Any:
    try:
        return yaml12.parse(text)
    except yaml.MarkedYAMLError as ex:
        mark = ex.problem_mark or ex.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        reason = ", ".join(filter(None, (ex.context, ex.problem)))
        raise _MalformedError(reason, line + 1, column + 1) from ex
    except (yaml.YAMLError, ValueError) as ex:
        raise _MalformedError(str(ex), 1, 1) from ex


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as ex:
        reason = str(ex)
        if place := _TOML_PLACE.search(reason):
            line, column = int(place[1]), int(place[2])
        else:  # It says "at end of document".
            line, column = text.count("\n") + 1, 1
        raise _MalformedError(_TOML_PLACE.sub("", reason), line, column) from ex


_FORMATS: Final[Mapping[Format, tuple[Callable[[str], Any], Callable[[str], dict[str, Span]]]]] = {
    Format.JSON: (_json, json_spans),
    Format.YAML: (_yaml, yaml12.yaml_spans),
    Format.TOML: (_toml, toml_spans),
}
_SUFFIXES: Final = {
    "json": Format.JSON,
    "yaml": Format.YAML,
    "yml": Format.YAML,
    "toml": Format.TOML,
}
