# SPDX-License-Identifier: Apache-2.0
"""Events and questions for them, as they are written down."""

from __future__ import annotations

import json

import msgspec
import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.monitor import EventsQuery, MonitorEvent, Timestamp, shown
from ipc_protocol.validation import PARSERS


def test_an_event_is_written_as_the_reference_does() -> None:
    event = MonitorEvent(Timestamp(1, 2), "virtio-device", "reset", {"id": "_net0"}, seq=7)
    assert json.loads(msgspec.json.encode(shown(event))) == {
        "timestamp": {"secs": 1, "nanos": 2},
        "source": "virtio-device",
        "event": "reset",
        "properties": {"id": "_net0"},
    }
    without = MonitorEvent(Timestamp(0, 0), "vm", "booted", seq=8)
    assert list(shown(without)) == ["timestamp", "source", "event", "properties"]
    assert shown(without)["properties"] is None


@pytest.mark.parametrize(
    ("start", "now", "expected"),
    [
        (5, 5, (0, 0)),
        (5, 1_000_000_004, (0, 999_999_999)),
        (5, 3_000_000_006, (3, 1)),
        (5, 4, (0, 0)),
    ],
)
def test_time_since_the_start(start: int, now: int, expected: tuple[int, int]) -> None:
    timestamp = Timestamp.since(start, now)
    assert (timestamp.secs, timestamp.nanos) == expected


parse_query = PARSERS[EventsQuery]


def test_questions() -> None:
    assert parse_query({}) == EventsQuery()
    query = {"epoch": "x", "after": 3, "wait_ms": 30_000}
    assert parse_query(query) == EventsQuery("x", 3, 30_000)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"epoch": 1},
        {"after": -1},
        {"after": 1 << 63},
        {"after": 1.0},
        {"wait_ms": 30_001},
        {"wait": 1},
    ],
)
def test_what_is_no_question(document: object) -> None:
    with pytest.raises(VmFailure) as caught:
        parse_query(document)
    assert caught.value.error.code is ErrorCode.INVALID_REQUEST
