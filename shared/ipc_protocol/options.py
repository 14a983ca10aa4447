# SPDX-License-Identifier: Apache-2.0
"""The ``key=value,key=value`` syntax of Cloud Hypervisor's command line options.

Commas separate; a comma inside ``"..."`` or ``[...]`` does not. Quotes are not part of
the value. A key without a value is a flag (``tty``), and only where one is expected; a
key with an empty value (``file=``) counts as not given.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final, TypeVar

__all__ = ["OptionError", "Options", "parse"]

_Choice = TypeVar("_Choice", bound=StrEnum)

_TOGGLES: Final = {"on": True, "true": True, "off": False, "false": False}
_SUFFIXES: Final = {"K": 10, "M": 20, "G": 30}
_INTEGER_LIMIT: Final = 1 << 63
_DIGITS_LIMIT: Final = 20
_RANGE_LIMIT: Final = 1 << 16


class OptionError(ValueError):
    """An option that cannot be understood; the text says which part and why."""


class Options:
    """The keys of one option with their values, not yet interpreted."""

    def __init__(self, values: dict[str, str], flags: frozenset[str]) -> None:
        self._values = values
        self.flags = flags
        """The keys that were given without a value."""

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str | None:
        """Return a value as it stands, or ``None`` where it was not given."""
        return self._values.get(key)

    def integer(self, key: str) -> int | None:
        """Return a value as a decimal number."""
        text = self._values.get(key)
        if text is None:
            return None
        return _integer(key, text, "a decimal number such as 4")

    def size(self, key: str) -> int | None:
        """Return a value as a number of bytes; K, M and G are powers of 1024."""
        text = self._values.get(key)
        if text is None:
            return None
        shift = _SUFFIXES.get(text[-1], 0)
        digits = text[:-1] if shift else text
        value = _integer(key, digits, "a size such as 512M or 2G", text) << shift
        if value >= _INTEGER_LIMIT:
            raise OptionError(f"{key}={text}: too large")
        return value

    def toggle(self, key: str) -> bool | None:
        """Return a value as a switch."""
        text = self._values.get(key)
        if text is None:
            return None
        if text not in _TOGGLES:
            raise OptionError(f"{key}={text}: expected on, off, true or false")
        return _TOGGLES[text]

    def integers(self, key: str, *, count: int, separator: str = ":") -> list[int] | None:
        """Return a value as exactly ``count`` decimal numbers."""
        text = self._values.get(key)
        if text is None:
            return None
        expected = f"{count} numbers separated by '{separator}'"
        parts = text.split(separator)
        if len(parts) != count:
            raise OptionError(f"{key}={text}: expected {expected}")
        return [_integer(key, part, expected, text) for part in parts]

    def choice(self, key: str, kind: type[_Choice]) -> _Choice | None:
        """Return a name, which may be written as in JSON or as options mostly are."""
        text = self._values.get(key)
        if text is None:
            return None
        name = text.lower().replace("-", "").replace("_", "")
        for each in kind:
            if each.value.lower() == name:
                return each
        raise OptionError(f"{key}={text}: expected one of {', '.join(kind)}")

    def tuples(self, key: str) -> list[tuple[int, list[int]]] | None:
        """Return a value such as ``[0@[1,3],1@[4-7]]``: numbers, and a list of numbers for each."""
        text = self._values.get(key)
        if text is None:
            return None
        expected = "numbers with lists such as [0@[1,3],1@[4-7]]"
        if not (text.startswith("[") and text.endswith("]")):
            raise OptionError(f"{key}={text}: expected {expected}")
        pairs = (part.partition("@") for part in _split(text[1:-1]))
        return [
            (_integer(key, number, expected, text), _numbers(key, members, expected, text))
            for number, _, members in pairs
        ]


def parse(text: str, *, keys: Collection[str] = (), flags: Collection[str] = ()) -> Options:
    """Split an option into its keys and values.

    Args:
        text: What stood on the command line.
        keys: The keys that take a value.
        flags: The keys that take none.

    Raises:
        OptionError: For an unknown or repeated key, a value where none belongs or none
            where one does, and quotes or brackets that are not closed.
    """
    values: dict[str, str] = {}
    given: set[str] = set()
    alone: set[str] = set()
    for raw in _split(text):
        key, equals, value = raw.partition("=")
        if key not in keys and key not in flags:
            known = ", ".join(sorted({*keys, *flags}))
            raise OptionError(f"unknown key '{key}'; known keys: {known}")
        if key in given:
            raise OptionError(f"'{key}' is given twice")
        given.add(key)
        if not equals and key not in flags:
            raise OptionError(f"'{key}' needs a value: {key}=...")
        if equals and key not in keys:
            raise OptionError(f"'{key}' takes no value")
        if not equals:
            alone.add(key)
        elif value:
            values[key] = value
    return Options(values, frozenset(alone))


def _split(text: str) -> list[str]:
    parts = [""]
    depth = 0
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted and not depth:
            parts.append("")
        else:
            if not quoted:
                depth += (character == "[") - (character == "]")
            if depth < 0:
                raise OptionError(f"']' without '[' in {text!r}")
            parts[-1] += character
    if quoted or depth:
        raise OptionError(f"{'a quote' if quoted else 'a bracket'} is not closed in {text!r}")
    return parts if text else []


def _numbers(key: str, members: str, expected: str, shown: str) -> list[int]:
    """Read a list of numbers and ranges."""
    if not (members.startswith("[") and members.endswith("]")):
        raise OptionError(f"{key}={shown}: expected {expected}")
    numbers: list[int] = []
    for part in members[1:-1].split(","):
        first, dash, last = part.partition("-")
        start = _integer(key, first, expected, shown)
        end = _integer(key, last, expected, shown) if dash else start
        if not start <= end < start + _RANGE_LIMIT:
            raise OptionError(f"{key}={shown}: {part} is no range from low to high")
        numbers += range(start, end + 1)
    return numbers


def _integer(key: str, digits: str, expected: str, shown: str | None = None) -> int:
    text = digits if shown is None else shown
    if not (digits.isascii() and digits.isdigit()):
        raise OptionError(f"{key}={text}: expected {expected}")
    if len(digits) > _DIGITS_LIMIT or int(digits) >= _INTEGER_LIMIT:
        raise OptionError(f"{key}={text}: too large")
    return int(digits)
