# SPDX-License-Identifier: Apache-2.0
"""The text of a document that a person wrote, and where in it each value stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["Source", "Span"]


class Span(NamedTuple):
    """A part of one line."""

    line: int
    """From 0."""
    column: int
    """From 0, in characters."""
    width: int


class Source(NamedTuple):
    """A document as it was read."""

    name: str
    text: str
    spans: Callable[[str], Mapping[str, Span]]
    """Finds where the value of each JSON pointer stands in a text."""

    def find(self, pointer: str) -> Span | None:
        """Return where a value stands, or what is nearest above it; ``None`` if nothing is."""
        spans = self.spans(self.text)
        while pointer and pointer not in spans:
            pointer = pointer.rpartition("/")[0]
        return spans.get(pointer)
