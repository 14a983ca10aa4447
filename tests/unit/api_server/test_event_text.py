# SPDX-License-Identifier: Apache-2.0
"""Events as text, and the ids by which a reader comes back."""

import pytest

from api_server.event_text import Position, event_text, notice_text
from ipc_protocol.errors import ApiFailure
from ipc_protocol.monitor import MonitorEvent, Timestamp

EPOCH = "0123456789abcdef"


def test_an_event():
    event = MonitorEvent(Timestamp(1, 2), "vm", "booted", {"a": "b\n\nid: 7"}, seq=9)
    assert event_text(EPOCH, event).decode() == (
        f"id: {EPOCH}-9\n"
        "event: vm.booted\n"
        'data: {"timestamp":{"secs":1,"nanos":2},"source":"vm","event":"booted",'
        '"properties":{"a":"b\\n\\nid: 7"}}\n\n'
    )


def test_a_notice_has_no_id():
    assert notice_text("lost", Timestamp(0, 0), after="x").decode() == (
        "event: velum.lost\n"
        'data: {"timestamp":{"secs":0,"nanos":0},"source":"velum","event":"lost",'
        '"properties":{"after":"x"}}\n\n'
    )


@pytest.mark.parametrize("position", [Position(EPOCH, 0), Position(EPOCH, 10**18 - 1)])
def test_an_id_there_and_back(position):
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", EPOCH, f"{EPOCH}-", f"{EPOCH}-01", f"{EPOCH}-+1", f"{EPOCH}-1\n"),
        *(f"{EPOCH}-\u0661", f"{EPOCH.upper()}-1", f"{EPOCH}0-1", f"{EPOCH}-{10**18}"),
    ],
)
def test_what_is_no_id(text):
    with pytest.raises(ApiFailure, match="is no id of an event"):
        Position.parse(text)
