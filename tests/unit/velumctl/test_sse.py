# SPDX-License-Identifier: Apache-2.0
"""Server-sent events."""

from __future__ import annotations

from velumctl.sse import ServerEvent, parse


def events(text: str) -> list[ServerEvent]:
    return list(parse(text.encode().splitlines(keepends=True)))


def test_events() -> None:
    text = "id: e-1\nevent: vm.booted\ndata: {}\n\n: alive\n\nid:e-2\r\ndata: a\r\ndata:b\r\n\r\n"
    assert events(text) == [
        ServerEvent("e-1", "vm.booted", "{}"),
        ServerEvent("e-2", "message", "a\nb"),
    ]


def test_an_id_stays_until_the_next() -> None:
    assert [each.id for each in events("id: 1\ndata: a\n\ndata: b\n\n")] == ["1", "1"]


def test_what_is_cut_short_is_no_event() -> None:
    assert events("data: a\n") == []
    assert events("event: a\n\n") == []
