# SPDX-License-Identifier: Apache-2.0
"""YAML's plain words, and where each value stands."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.velumctl.test_spans import shown
from velumctl.spans import DuplicateKeyError
from velumctl.yaml12 import parse, yaml_spans

TEXT = """\
# a comment
cpus: {boot_vcpus: 0, max_vcpus: 1}
disks:
  - path: /a
    "num~queues": [1]
  -
    path: >
      folded
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # What version 1.1 takes for something else.
        ("Off", "Off"),
        ("on", "on"),
        ("yes", "yes"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("12:34:56", "12:34:56"),
        ("2026-11-23", "2026-11-23"),
        ("010", 10),
        ("1_000", "1_000"),
        # What both agree on.
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-7", -7),
        ("0x10", 16),
        ("0o10", 8),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("null", None),
        ("~", None),
        ("", None),
        ("'0'", "0"),
        ("text", "text"),
    ],
)
def test_plain_words(text: str, value: Any) -> None:
    found = parse(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_spans() -> None:
    assert shown(TEXT, yaml_spans(TEXT)) == {
        "/cpus": "cpus",
        "/cpus/boot_vcpus": "boot_vcpus: 0",
        "/cpus/max_vcpus": "max_vcpus: 1",
        "/disks": "disks",
        "/disks/0": "p",
        "/disks/0/path": "path: /a",
        "/disks/0/num~0queues": '"num~queues"',
        "/disks/0/num~0queues/0": "1",
        "/disks/1": "p",
        "/disks/1/path": "p",
    }


def test_a_key_given_twice() -> None:
    with pytest.raises(DuplicateKeyError, match="/a/b is given twice"):
        yaml_spans("a:\n  b: 1\n  b: 2\n")


def test_no_object_of_python_is_made() -> None:
    with pytest.raises(Exception, match="could not determine a constructor"):
        parse("!!python/object/apply:os.getcwd []")
