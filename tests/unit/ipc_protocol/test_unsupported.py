# SPDX-License-Identifier: Apache-2.0
"""The page on compatibility has every field that is refused, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ipc_protocol.unsupported import UNSUPPORTED, Node, Unsupported

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"
ROW = re.compile(r"^\| `(?P<field>[\w.]+)` \| (?P<allowed>.+) \| (?P<lacks>.+) \|$", re.MULTILINE)


def fields(node: Node = UNSUPPORTED, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(node, Unsupported):
        yield path, ", ".join(f"`{json.dumps(each)}`" for each in node.nothing), node.lacks
        return
    for name, below in sorted(node.items()):
        yield from fields(below, f"{path}.{name}" if path else name)


def test_the_page_lists_what_is_refused() -> None:
    section = PAGE.read_text().partition("## Fields that are refused")[2]
    assert [row.group("field", "allowed", "lacks") for row in ROW.finditer(section)] == [*fields()]
