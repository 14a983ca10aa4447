# SPDX-License-Identifier: Apache-2.0
"""Where each value of a document stands in its text."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velumctl.source import Span
from velumctl.spans import DuplicateKeyError, escape, json_spans, toml_spans

JSON = """{
\t"cpus": {"boot_vcpus": 0, "a/b": [1, {"c": null}]},
  "cmdline": "console=ttyS0 \\"x\\"",
  "disks": [
    {"path": "/a"},
    {
      "path":
        "/b"
    }
  ]
}
"""

TOML = """# a comment = "x"
title = 'one # two'
cpus.boot_vcpus = 0 # zero
[memory]
size = 1_000
"odd.key" = {x = 1, "y" = [1, 2]}
text = \"\"\"
two # lines
\"\"\"
[[disks]]
path = "/a"
[[disks]]
path = "/b"
[disks.rate_limiter_config]
ops = { size = 0 }
[[disks.queue_affinity]]
host_cpus = [
  1, # one
  2,
]
"""


def shown(text: str, spans: dict[str, Span]) -> dict[str, str]:
    lines = text.split("\n")
    return {
        pointer: lines[span.line][span.column : span.column + span.width]
        for pointer, span in spans.items()
    }


def test_json() -> None:
    assert shown(JSON, json_spans(JSON)) == {
        "/cpus": '"cpus"',
        "/cpus/boot_vcpus": '"boot_vcpus": 0',
        "/cpus/a~1b": '"a/b"',
        "/cpus/a~1b/0": "1",
        "/cpus/a~1b/1": '{"c": null}',
        "/cpus/a~1b/1/c": '"c": null',
        "/cmdline": '"cmdline": "console=ttyS0 \\"x\\""',
        "/disks": '"disks"',
        "/disks/0": '{"path": "/a"}',
        "/disks/0/path": '"path": "/a"',
        "/disks/1": "{",
        "/disks/1/path": '"path"',
    }


def test_toml() -> None:
    assert shown(TOML, toml_spans(TOML)) == {
        "/title": "title = 'one # two'",
        "/cpus/boot_vcpus": "cpus.boot_vcpus = 0",
        "/memory": "[memory]",
        "/memory/size": "size = 1_000",
        "/memory/odd.key": '"odd.key"',
        "/memory/odd.key/x": "x = 1",
        "/memory/odd.key/y": '"y"',
        "/memory/odd.key/y/0": "1",
        "/memory/odd.key/y/1": "2",
        "/memory/text": "text",
        "/disks": "[[disks]]",
        "/disks/0": "[[disks]]",
        "/disks/0/path": 'path = "/a"',
        "/disks/1": "[[disks]]",
        "/disks/1/path": 'path = "/b"',
        "/disks/1/rate_limiter_config": "[disks.rate_limiter_config]",
        "/disks/1/rate_limiter_config/ops": "ops",
        "/disks/1/rate_limiter_config/ops/size": "size = 0",
        "/disks/1/queue_affinity": "[[disks.queue_affinity]]",
        "/disks/1/queue_affinity/0": "[[disks.queue_affinity]]",
        "/disks/1/queue_affinity/0/host_cpus": "host_cpus",
        "/disks/1/queue_affinity/0/host_cpus/0": "1",
        "/disks/1/queue_affinity/0/host_cpus/1": "2",
    }
    assert tomllib.loads(TOML)["disks"][1]["queue_affinity"] == [{"host_cpus": [1, 2]}]


def test_a_key_given_twice() -> None:
    with pytest.raises(DuplicateKeyError, match="/a/b is given twice") as caught:
        json_spans('{"a": {"b": 1,\n "b": 2}}')
    assert caught.value.span == Span(1, 1, 6)


def pointers(value: Any, pointer: str = "") -> set[str]:
    """Return the pointer of each value in a document but the document itself."""
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = set()
    for name, each in below:
        found |= {f"{pointer}/{escape(str(name))}"} | pointers(
            each, f"{pointer}/{escape(str(name))}"
        )
    return found


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(DOCUMENTS, st.sampled_from([None, 0, 3, "\t"]), st.booleans())
def test_each_value_of_any_json_is_found(document: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    spans = json_spans(text)
    assert set(spans) == pointers(document)
    lines = text.split("\n")
    for span in spans.values():
        assert 0 < span.width <= len(lines[span.line]) - span.column
