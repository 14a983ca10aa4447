# SPDX-License-Identifier: Apache-2.0
"""Where a request ends, as the polling thread sees it."""

import pytest

from api_server.intake import MAX_COLLECTED, Intake, Progress

GET = b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT = b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 5\r\n\r\n[1,2]"


@pytest.mark.parametrize("request_", [GET, PUT, PUT.replace(b"C", b"c").replace(b": ", b":\t ")])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_):
    intake = Intake()
    for index in range(len(request_) - 1):
        intake.feed(request_[index : index + 1])
        assert intake.progress() is Progress.PART
    intake.feed(request_[-1:] + b"GET")
    assert intake.progress() is Progress.WHOLE
    assert intake.take() == request_ + b"GET"
    assert intake.progress() is Progress.PART


def test_each_request_is_looked_at_by_itself():
    intake = Intake()
    for request in (PUT, GET, PUT):
        intake.feed(request)
        assert intake.progress() is Progress.WHOLE
        assert intake.take() == request


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:gzip",
        b"Expect: 100-continue",
        b"Content-Length: %d" % MAX_COLLECTED,
        b"Content-Length: 99999999999",
        b"Content-Length: " + b"9" * 40,
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    ],
)
def test_what_only_a_reader_can_tell_the_end_of_is_long(field):
    intake = Intake()
    intake.feed(b"PUT / HTTP/1.1\r\n" + field + b"\r\n\r\n")
    assert intake.progress() is Progress.LONG


def test_a_head_without_an_end_is_long():
    intake = Intake()
    intake.feed(b"GET / HTTP/1.1\r\nX: ".ljust(MAX_COLLECTED, b"x"))
    assert intake.progress() is Progress.PART
    intake.feed(b"x")
    assert intake.progress() is Progress.LONG


@pytest.mark.parametrize("length", [b"-1", b"many", b"+5", b"", b"0x5", b"5\r\n 5"])
def test_a_length_that_is_none_is_for_the_parser_to_refuse(length):
    intake = Intake()
    intake.feed(b"PUT / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n")
    assert intake.progress() in (Progress.WHOLE, Progress.PART)


def test_empty_lines_before_a_request_are_nothing():
    intake = Intake()
    intake.feed(b"\r\n\r\n")
    assert len(intake) == 0
    intake.feed(b"\r")
    intake.feed(b"\n" + GET)
    assert intake.progress() is Progress.WHOLE
    assert intake.take() == GET


def test_a_body_may_hold_what_looks_like_a_head():
    body = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    intake = Intake()
    intake.feed(request)
    assert intake.progress() is Progress.WHOLE
