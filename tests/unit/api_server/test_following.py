# SPDX-License-Identifier: Apache-2.0
"""One worker and its readers: nobody misses an event, and what is lost is told."""

import select
import socket
import time

import pytest

from api_server.event_text import Position
from api_server.following import Following
from api_server.stream_reader import HIGH_WATER, Reader
from ipc_protocol.monitor import EventBatch, EventsQuery, MonitorEvent, Timestamp
from ipc_protocol.server import Server

EPOCH, OTHER = "0123456789abcdef", "fedcba9876543210"
PATIENCE = 30.0


class Client:
    """A reader, and what it has read."""

    def __init__(self, seq, epoch=EPOCH):
        ours, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self.reader = Reader(ours, b"", Position(epoch, seq), chunked=False)

    def read(self):
        self.reader.send()
        try:
            text = self.socket.recv(1 << 20).decode()
        except BlockingIOError:
            return []
        return [line[4:] for line in text.splitlines() if line.startswith(("id: ", "data: {"))]

    def ids(self):
        return [int(line.rpartition("-")[2]) for line in self.read() if line.startswith(EPOCH)]

    def close(self):
        self.reader.close(end=False)
        self.socket.close()


def batch(first, last, epoch=EPOCH):
    events = tuple(
        MonitorEvent(Timestamp(0, 0), "vm", "booted", seq=seq) for seq in range(first, last + 1)
    )
    return EventBatch(epoch, time.monotonic_ns(), last, events)


class Place:
    """A worker that answers when told to, and what follows it."""

    def __init__(self, path):
        self.server = Server(path)
        self.following = Following(path, EventBatch(EPOCH, time.monotonic_ns(), 10))
        self.clients = []
        deadline = time.monotonic() + PATIENCE
        while not self.following._subscription.connected:
            self.following.take()
            assert time.monotonic() < deadline

    def join(self, *positions):
        for position in positions:
            client = Client(*position)
            self.clients.append(client)
            self.following.join(client.reader)
        return self.clients[-len(positions) :]

    def question(self):
        assert self.server.socket.poll(int(PATIENCE * 1000))
        incoming = self.server.receive()
        assert incoming is not None
        return incoming

    def answer(self, incoming, value):
        subscription = self.following._subscription
        query = subscription.query
        self.server.reply(incoming, value)
        while subscription.query is query:  # an answer to a question before is news as well
            assert select.select(self.following.descriptors, [], [], PATIENCE)[0]
            self.following.take()

    def close(self):
        for client in self.clients:
            client.close()
        self.following.close()
        self.server.close()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "vm.ipc")
    yield place
    place.close()


def asked(incoming):
    query = incoming.body
    assert isinstance(query, EventsQuery)
    return query.epoch, query.after


def test_one_question_serves_all(place):
    one, two = place.join((10,), (10,))
    first = place.question()
    assert asked(first) == (EPOCH, 10)
    place.answer(first, batch(11, 12))
    assert one.ids() == two.ids() == [11, 12]
    assert asked(place.question()) == (EPOCH, 12)


def test_who_comes_with_less_is_asked_for_and_has_lost_nothing(place):
    (one,) = place.join((10,))
    first = place.question()
    place.server.reply(first, batch(11, 11))
    (two,) = place.join((5,))
    second = place.question()
    assert asked(second) == (EPOCH, 5)
    place.following.take()
    assert one.ids() == two.ids() == []
    place.answer(second, batch(6, 11))
    assert one.ids() == [11]
    assert two.ids() == [6, 7, 8, 9, 10, 11]


def test_who_is_too_far_behind_is_told_and_the_others_are_not(place):
    two, one = place.join((2,), (10,))
    first = place.question()
    assert asked(first) == (EPOCH, 2)
    place.answer(first, batch(8, 11))
    assert one.ids() == [11]
    lost, *events = two.read()
    assert '"after":"0123456789abcdef-2"' in lost
    assert '"events":"5"' in lost
    assert two.reader.position == Position(EPOCH, 11)
    assert len(events) == 2 * 4


def test_who_has_another_worker_s_events_is_told(place):
    (one,) = place.join((77, OTHER))
    first = place.question()
    assert asked(first) == (None, 0)
    place.answer(first, batch(1, 2))
    lost = one.read()[0]
    assert f'"after":"{OTHER}-77","reason":"worker_restarted"' in lost
    assert one.reader.position == Position(EPOCH, 2)
    assert asked(place.question()) == (EPOCH, 2)


def test_who_is_full_is_given_nothing_until_it_has_read(place):
    one, two = place.join((10,), (10,))
    two.reader.tell(b"x" * (HIGH_WATER + 1))
    first = place.question()
    place.answer(first, batch(11, 20))
    assert one.ids() == list(range(11, 21))
    assert two.reader.position == Position(EPOCH, 10)
    assert asked(place.question()) == (EPOCH, 20)
    while two.reader.behind:
        two.read()
    assert place.following.ask()
    again = place.question()
    assert asked(again) == (EPOCH, 10)
    place.answer(again, batch(11, 20))
    assert one.ids() == []
    assert two.ids() == list(range(11, 21))
