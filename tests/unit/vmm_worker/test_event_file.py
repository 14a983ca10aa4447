# SPDX-License-Identifier: Apache-2.0
"""``--event-monitor``: whole events to a file, a FIFO or a descriptor, whatever its reader does."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.event_file import EventFile, EventTarget
from vmm_worker.monitor import CAPACITY, Monitor

TEXT = """\
{
  "timestamp": {
    "secs": 0,
    "nanos": 0
  },
  "source": "virtio-device",
  "event": "activated",
  "properties": {
    "id": "_disk0"
  }
}

{
  "timestamp": {
    "secs": 0,
    "nanos": 0
  },
  "source": "vmm",
  "event": "shutdown",
  "properties": null
}

"""


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor(lambda: 0)
    yield monitor
    monitor.close()


def events(text: str) -> list[dict[str, Any]]:
    """Read what a client reads: objects that an empty line ends."""
    assert text.endswith("}\n\n") or not text
    return [json.loads(part) for part in text.split("\n\n") if part]


def drain(read: Callable[[int], bytes]) -> bytes:
    parts = []
    while True:
        try:
            part = read(1 << 16)
        except BlockingIOError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def test_the_form_is_the_reference_s(monitor: Monitor, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("of the last run")
    file = EventFile(monitor, EventTarget(path=str(path)))
    monitor.tell("virtio-device", "activated", id="_disk0")
    file.write()
    monitor.tell("vmm", "shutdown")
    file.close()
    assert path.read_text() == TEXT


def test_a_slow_reader_gets_whole_events_and_holds_nobody_up(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    file = EventFile(monitor, EventTarget(fd=writing))
    for number in range(3 * CAPACITY):
        monitor.tell("vm", str(number))
        file.write()
    assert file.blocked
    text = b""
    while file.blocked:
        text += drain(lambda size: os.read(reading, size))
        file.write()
    file.close()
    text += drain(lambda size: os.read(reading, size))
    os.close(reading)
    numbers = [int(each["event"]) for each in events(text.decode())]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 3 * CAPACITY - 1
    missed = 3 * CAPACITY - len(numbers)
    assert missed > 0
    (record,) = caplog.records
    assert f"{missed} events were not written" in record.getMessage()


def test_a_stream_socket_gets_whole_events_too(monitor: Monitor) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    file = EventFile(monitor, EventTarget(fd=ours.detach()))
    text = b""
    for number in range(CAPACITY):
        monitor.tell("vm", str(number))
    file.write()
    while file.blocked:
        text += drain(lambda size: theirs.recv(min(size, 1000)))
        file.write()
    file.close()
    text += drain(theirs.recv)
    theirs.close()
    assert [int(each["event"]) for each in events(text.decode())] == list(range(CAPACITY))


def test_a_fifo_may_have_its_reader_later(monitor: Monitor, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    file = EventFile(monitor, EventTarget(path=str(path)))
    monitor.tell("vmm", "starting")
    file.write()
    with path.open("rb", buffering=0) as reader:
        os.set_blocking(reader.fileno(), False)
        assert events(drain(lambda size: os.read(reader.fileno(), size)).decode())
    monitor.tell("vmm", "shutdown")
    file.close()


def test_a_reader_that_is_gone_is_told_of_once(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = os.pipe()
    file = EventFile(monitor, EventTarget(fd=writing))
    os.close(reading)
    for _ in range(3):
        monitor.tell("vm", "x")
        file.write()
        assert not file.blocked
    file.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no more events are written: Broken pipe" in record.getMessage()


def test_children_do_not_inherit_it(monitor: Monitor) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    file = EventFile(monitor, EventTarget(fd=writing))
    assert not os.get_inheritable(writing)
    assert not os.get_blocking(writing)
    file.close()
    os.close(reading)


def test_what_cannot_be_written_to(monitor: Monitor, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    for target, cause in (
        (EventTarget(path=str(tmp_path)), "Is a directory"),
        (EventTarget(path=str(tmp_path / "a" / "b")), "No such file or directory"),
        (EventTarget(fd=writing), "Bad file descriptor"),
        (EventTarget(fd=reading), "it is open for reading only"),
    ):
        with pytest.raises(VmFailure) as caught:
            EventFile(monitor, target)
        error = caught.value.error
        assert (error.code, error.causes) == (ErrorCode.FILE_UNAVAILABLE, (cause,))
        assert f"--event-monitor {target}: " in error.message
    os.close(reading)
