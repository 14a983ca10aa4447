# SPDX-License-Identifier: Apache-2.0
"""Where each value of a JSON or TOML document stands in its text.

The text has been parsed before, so it is well formed: this only follows its structure. A
member is found from its key to the end of its value, or by its key alone where the value
is an object, an array or of several lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from velumctl.source import Span

__all__ = ["DuplicateKeyError", "escape", "json_spans", "span_of", "toml_spans"]

_GAP: Final = re.compile(r"(?:\s|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^,\]}\n#]*[^,\]}\n#\s]")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)


class DuplicateKeyError(ValueError):
    """A key that appears twice in one object, with the place of the second."""

    def __init__(self, pointer: str, span: Span) -> None:
        super().__init__(f"{pointer} is given twice")
        self.span = span


def escape(name: str) -> str:
    """Write a name as part of a JSON pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def span_of(text: str, start: int, end: int) -> Span:
    """Return the part of the first line that lies between two offsets."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    end = min(end, len(text) if line_end == -1 else line_end)
    return Span(text.count("\n", 0, start), start - line_start, max(1, end - start))


def json_spans(text: str) -> dict[str, Span]:
    """Return the place of each value of a JSON document, by its pointer.

    Raises:
        DuplicateKeyError: A key that appears twice, of which a parser takes any.
    """
    scanner = _Scanner(text)
    scanner.value("")
    return scanner.spans


def toml_spans(text: str) -> dict[str, Span]:
    """Return the place of each value of a TOML document, by its pointer."""
    scanner = _TomlScanner(text)
    scanner.document()
    return scanner.spans


class _Scanner:
    """One pass over a text; JSON's objects have colons."""

    separator = ":"

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spans: dict[str, Span] = {}

    def value(self, pointer: str) -> bool:
        """Pass a value and note what is in it; return whether it is a scalar."""
        self._gap()
        match self.text[self.at : self.at + 1]:
            case "{":
                for _ in self._elements("}"):
                    self.member(pointer)
                return False
            case "[":
                for index, _ in enumerate(self._elements("]")):
                    start = self.at
                    below = f"{pointer}/{index}"
                    self.value(below)
                    self._note(below, start, self.at)
                return False
        self._pass(_STRING if self.text[self.at : self.at + 1] in ('"', "'") else _SCALAR)
        return True

    def member(self, pointer: str) -> None:
        """Pass a key and its value."""
        start = self.at
        names = self.key()
        end = self.at
        for name in names:
            pointer = f"{pointer}/{escape(name)}"
        self._gap()
        self.at += len(self.separator)
        if self.value(pointer) and "\n" not in self.text[start : self.at]:
            end = self.at
        self._note(pointer, start, end)

    def key(self) -> list[str]:
        """Pass a key and return the names in it."""
        return [json.loads(self._pass(_STRING), strict=False)]

    def _note(self, pointer: str, start: int, end: int) -> None:
        span = span_of(self.text, start, end)
        if pointer in self.spans:
            raise DuplicateKeyError(pointer, span)
        self.spans[pointer] = span

    def _elements(self, closing: str) -> Iterator[None]:
        """Stop before each element of what begins here, and behind its end at the last."""
        self.at += 1
        while True:
            self._gap()
            if self.text.startswith(",", self.at):
                self.at += 1
                continue
            if self.text.startswith(closing, self.at):
                self.at += 1
                return
            yield

    def _gap(self) -> None:
        self._pass(_GAP)

    def _pass(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            line = span_of(self.text, self.at, self.at).line + 1
            raise ValueError(f"line {line} is not what the parser found there")
        self.at = found.end()
        return found[0]


class _TomlScanner(_Scanner):
    """TOML has equals signs, keys with dots, and headers."""

    separator = "="

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._tables: dict[str, int] = {}
        """How many tables each array of tables has up to here."""

    def document(self) -> None:
        """Pass the whole text."""
        table = ""
        while True:
            self._gap()
            if self.at >= len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self.member(table)

    def key(self) -> list[str]:
        """Pass a key, which may have dots, and return the names in it."""
        names = []
        while True:
            self._gap()
            quoted = self.text[self.at] in "\"'"
            name = self._pass(_STRING if quoted else _BARE)
            names.append(name[1:-1] if quoted else name)
            end = self.at
            self._gap()
            if not self.text.startswith(".", self.at):
                self.at = end
                return names
            self.at += 1

    def _header(self) -> str:
        start = self.at
        repeated = self.text.startswith("[[", self.at)
        self.at += 1 + repeated
        pointer = ""
        for name in self.key():
            # A table below an array of tables is of its last one.
            if pointer in self._tables:
                pointer += f"/{self._tables[pointer] - 1}"
            pointer += f"/{escape(name)}"
        self._gap()
        self.at += 1 + repeated
        if repeated:
            self._tables[pointer] = self._tables.get(pointer, 0) + 1
            self.spans.setdefault(pointer, span_of(self.text, start, self.at))
            pointer += f"/{self._tables[pointer] - 1}"
        elif pointer in self._tables:
            pointer += f"/{self._tables[pointer] - 1}"
        self._note(pointer, start, self.at)
        return pointer
