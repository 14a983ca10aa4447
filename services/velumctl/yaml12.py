# SPDX-License-Identifier: Apache-2.0
"""YAML as its version 1.2 reads plain words, and where each value of a document stands.

By version 1.1 ``Off``, a mode of the console, would be false, and a MAC address of
decimal digits a number of base 60.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from velumctl.source import Span
from velumctl.spans import DuplicateKeyError, escape

__all__ = ["parse", "yaml_spans"]

_CORE: Final = (
    # YAML 1.2.2, section 10.3.2.
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)


class _Loader(yaml.SafeLoader):
    """Knows the core schema's words and no others."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - of the class, as PyYAML's


def _integer(_loader: _Loader, node: yaml.ScalarNode) -> int:
    based = node.value.startswith(("0o", "0x"))
    return int(node.value, 0 if based else 10)


for _tag, _words, _first in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(f"(?:{_words})\\Z"),
        ["" if each == "\0" else each for each in _first],
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def parse(text: str) -> Any:
    """Return the one document in a text.

    Raises:
        yaml.YAMLError: It is none.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def yaml_spans(text: str) -> dict[str, Span]:
    """Return the place of each value of a document, by its JSON pointer.

    Raises:
        DuplicateKeyError: A key that appears twice in one mapping.
    """
    root = yaml.compose(text, _Loader)
    spans: dict[str, Span] = {}
    if root is not None:
        _note_children(root, "", spans)
    return spans


def _note_children(node: yaml.Node, pointer: str, spans: dict[str, Span]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            below = f"{pointer}/{index}"
            spans[below] = _span(item.start_mark, item.end_mark)
            _note_children(item, below, spans)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            below = f"{pointer}/{escape(str(key.value))}"
            ends = item.end_mark if isinstance(item, yaml.ScalarNode) else key.end_mark
            span = _span(key.start_mark, ends)
            if below in spans:
                raise DuplicateKeyError(below, span)
            spans[below] = span
            _note_children(item, below, spans)


def _span(start: yaml.Mark, end: yaml.Mark) -> Span:
    """Return what of a node is on its first line."""
    if start.line == end.line:
        return Span(start.line, start.column, max(1, end.column - start.column))
    return Span(start.line, start.column, 1)
