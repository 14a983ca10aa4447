# SPDX-License-Identifier: Apache-2.0
"""A reader of events: what it is given, what waits for it, how its answer ends."""

import socket
import time

import pytest

from api_server.event_text import Position
from api_server.stream_reader import HIGH_WATER, Reader

EPOCH = "0123456789abcdef"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


def read_all(client):
    data = b""
    while part := client.recv(1 << 16):
        data += part
    return data


def test_it_is_given_what_it_does_not_have(pair):
    ours, theirs = pair
    reader = Reader(ours, b"head", Position(EPOCH, 3), chunked=True)
    texts = [b"a", b"b", b"c"]
    reader.feed(texts, Position(EPOCH, 5))
    reader.feed(texts, Position(EPOCH, 5))
    assert reader.position == Position(EPOCH, 5)
    reader.close(end=True)
    assert read_all(theirs) == b"head" + b"2\r\nbc\r\n" + b"0\r\n\r\n"


def test_a_client_of_http_1_0_gets_no_chunks(pair):
    ours, theirs = pair
    reader = Reader(ours, b"", Position(EPOCH, 0), chunked=False)
    reader.feed([b"a"], Position(EPOCH, 1))
    reader.close(end=True)
    assert read_all(theirs) == b"a"


def test_without_an_end_the_client_sees_that_something_is_missing(pair):
    ours, theirs = pair
    reader = Reader(ours, b"", Position(EPOCH, 0), chunked=True)
    reader.tell(b"a")
    reader.send()
    reader.close(end=False)
    assert read_all(theirs) == b"1\r\na\r\n"


def test_what_waits_for_it(pair):
    ours, theirs = pair
    reader = Reader(ours, b"", Position(EPOCH, 0), chunked=True)
    assert not reader.behind
    reader.since = 0.0
    sent = 0
    while not reader.full:
        reader.tell(b"x" * 10_000)
        reader.send()
        sent += 10_000
        assert sent < 100 * HIGH_WATER
    assert reader.behind
    assert time.monotonic() - reader.since < 30, "it has just taken something"
    theirs.recv(1 << 16)
    before = reader.since
    while time.monotonic() <= before:
        pass
    reader.send()
    assert reader.since > before
    reader.close(end=False)


def test_a_sign_of_life_only_where_nothing_else_waits(pair):
    ours, theirs = pair
    reader = Reader(ours, b"", Position(EPOCH, 0), chunked=True)
    reader.keep_alive()
    reader.keep_alive()
    reader.close(end=True)
    assert read_all(theirs) == b"3\r\n:\n\n\r\n" + b"0\r\n\r\n"


def test_a_client_that_is_gone(pair):
    ours, theirs = pair
    reader = Reader(ours, b"x", Position(EPOCH, 0), chunked=True)
    theirs.close()
    with pytest.raises(BrokenPipeError):
        reader.send()
    reader.close(end=True)


def test_what_the_client_sent_meanwhile_does_not_cost_it_the_end(pair):
    ours, theirs = pair
    reader = Reader(ours, b"", Position(EPOCH, 0), chunked=True)
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    reader.close(end=True)
    assert read_all(theirs) == b"0\r\n\r\n"
