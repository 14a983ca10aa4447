# SPDX-License-Identifier: Apache-2.0
"""What the protocol has gained since its previous version, against what that one was."""

from __future__ import annotations

import json
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc_protocol import codec, history
from ipc_protocol.history import NEW_MEMBERS, NEW_VALUES, previous_form
from ipc_protocol.version import PREVIOUS_VERSION
from tests.support.vocabulary import types, vocabulary

WAS: dict[str, Any] = json.loads(
    Path(__file__).with_name(f"protocol-{PREVIOUS_VERSION}.json").read_text()
)
WAY_OUT = "docs/upgrading.md says what a change of the messages needs"


class Colour(StrEnum):
    RED = "red"
    CRIMSON = "crimson"


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    size: int = 1
    colour: Colour = Colour.RED


class Whole(msgspec.Struct, frozen=True, rename="kebab"):
    the_first: Part
    more_parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = {}
    by_colour: dict[Colour, int] = {}


@pytest.fixture(autouse=True)
def _gained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "NEW_MEMBERS", {Part: frozenset({"size"})})
    monkeypatch.setattr(history, "NEW_VALUES", {Colour.CRIMSON: Colour.RED})


@pytest.mark.parametrize("name", WAS["types"])
def test_every_change_of_a_type_is_noted(name: str) -> None:
    kind = types()[name]
    old, now = set(WAS["types"][name]), set(vocabulary()["types"][name])
    noted = NEW_MEMBERS.get(kind, set())
    if issubclass(kind, Enum):
        noted = {each.value for each in NEW_VALUES if isinstance(each, kind)}
    assert now - noted == old, WAY_OUT


def test_every_operation_is_what_it_was() -> None:
    now = vocabulary()["operations"]
    assert {name: now.get(name) for name in WAS["operations"]} == WAS["operations"], WAY_OUT


def test_what_is_new_has_a_default_or_a_substitute() -> None:
    for kind, members in NEW_MEMBERS.items():
        fields = {each.name: each for each in msgspec.structs.fields(kind)}
        assert not any(fields[name].required for name in members), (kind, WAY_OUT)
    for new, substitute in NEW_VALUES.items():
        assert substitute.value in WAS["types"][type(new).__name__], WAY_OUT


def test_what_says_nothing_new_is_the_same() -> None:
    whole = Whole(Part("a"), (Part("b"),), {"c": Part("c")}, {Colour.RED: 1})
    plain, less = previous_form(whole)
    assert codec.encode(plain) == codec.encode(whole)
    assert less == []


def test_what_is_new_is_left_out_and_named() -> None:
    whole = Whole(Part("a", 2), (Part("b"), Part("b", 3)), {"c": Part("c", colour=Colour.CRIMSON)})
    plain, less = previous_form([whole])
    assert plain == [
        {
            "the-first": {"name": "a"},
            "more-parts": [{"name": "b"}, {"name": "b"}],
            "by-name": {"c": {"name": "c", "colour": "red"}},
            "by-colour": {},
        }
    ]
    assert less == ["/0/the-first/size", "/0/more-parts/1/size", "/0/by-name/c/colour"]


def test_counts_of_what_is_new_are_left_out() -> None:
    whole = Whole(Part("a"), by_colour={Colour.RED: 1, Colour.CRIMSON: 2})
    assert previous_form(whole)[0]["by-colour"] == {"red": 1}


@pytest.mark.parametrize("value", [None, 1, "text", b"bytes", [1, {"a": None}]])
def test_plain_values_are_what_they_are(value: object) -> None:
    assert previous_form(value) == (value, [])
