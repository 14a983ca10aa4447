# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from gunicorn.http.errors import InvalidChunkSize
from hypothesis import given
from hypothesis import strategies as st

from api_server.body import MAX_BODY, check_media_type, parse_json, read_body
from ipc_protocol.errors import ApiFailure, ErrorCode


class _Broken:
    def __init__(self, ex):
        self._ex = ex

    def read(self, _size):
        raise self._ex


def _code(function, *arguments):
    with pytest.raises(ApiFailure) as failure:
        function(*arguments)
    return failure.value.error.code


def _message(body):
    with pytest.raises(ApiFailure) as failure:
        parse_json(body)
    assert failure.value.error.code is ErrorCode.MALFORMED_JSON
    return failure.value.error.message


@pytest.mark.parametrize("length", [0, 1, MAX_BODY])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_up_to_the_limit_is_read(length, declared):
    body = b"x" * length
    assert read_body(io.BytesIO(body), length if declared else None) == body


def test_a_body_over_the_limit_is_refused():
    body = io.BytesIO(b"x" * (MAX_BODY + 1))
    assert _code(read_body, body, MAX_BODY + 1) is ErrorCode.PAYLOAD_TOO_LARGE
    assert body.tell() == 0, "what is declared too large is not read"
    assert _code(read_body, body, None) is ErrorCode.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("ex", [BlockingIOError(11, "again"), InvalidChunkSize(b"xx")])
def test_a_body_that_cannot_be_read_is_the_client_s_fault(ex):
    assert _code(read_body, _Broken(ex), None) is ErrorCode.INVALID_REQUEST


def test_a_body_that_ends_early_is_refused():
    assert _code(read_body, io.BytesIO(b"{}"), 3) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        " ",
        "application/json",
        "Application/JSON",
        " application/json ",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=us-ascii",
        "application/json; profile=x",
        "application/merge-patch+json",
        "application/vnd.velum.v1+json",
        "application/x-www-form-urlencoded",
    ],
)
def test_a_content_type_that_may_be_json_is_accepted(content_type):
    check_media_type(content_type, None)
    check_media_type(content_type, "identity")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/xml",
        "application/jsonx",
        "application/+json",
        "application/octet-stream",
        "multipart/form-data; boundary=json",
        "json",
        "application/json, text/html",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
    ],
)
def test_a_content_type_that_says_it_is_not_json_is_refused(content_type):
    assert _code(check_media_type, content_type, None) is ErrorCode.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_an_encoded_body_is_refused(coding):
    assert _code(check_media_type, None, coding) is ErrorCode.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b"{}", {}),
        (b" \t\r\n{} ", {}),
        (b"null", None),
        (b"[1, 2.5, -0]", [1, 2.5, 0]),
        (b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}', {"a": {"a": 1}, "b": [{"a": 1}] * 2}),
        (b'"\\ud83d\\ude00 \xc3\xa9"', "\U0001f600 é"),
        (b"18446744073709551616", 1 << 64),
    ],
)
def test_json_is_parsed(body, document):
    assert parse_json(body) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"}",
        b"{'a': 1}",
        b'{"a": 1} x',
        b'{"a": 1}{"a": 1}',
        b'{"a" 1}',
        b"[1,]",
        b"// x\n{}",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"01",
        b"+1",
        b".5",
        b"0x10",
        b"1" * 5000,
        b'"\\ud800"',
        b'"\\x41"',
        b'"a\nb"',
        b'"\x00"',
        b'"\xff"',
        b'"\xc3"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_not_json_is_refused(body):
    assert _message(body)


def test_the_place_of_an_error_is_told():
    assert "line 3, column 8" in _message(b'{\n  "a": 1,\n  "b": x\n}')
    assert "line 1, column 8" in _message(b'{"a":1,}')


def test_a_member_that_appears_twice_is_refused():
    assert "'memory'" in _message(b'{"memory": {"size": 1}, "memory": {"size": 2}}')
    assert "'a'" in _message(b'[{"b": [{"a": 1, "a": 1}]}]')
    assert "'a'" in _message(b'{"a": 1, "\\u0061": 1}'), "escapes do not hide it"


def test_a_long_member_does_not_fill_the_answer():
    name = b'"' + b"a" * 10_000 + b'"'
    assert len(_message(b"{" + name + b":1," + name + b":2}")) < 200


@given(st.binary(max_size=200))
def test_random_bytes_are_parsed_or_refused(body):
    try:
        parse_json(body)
    except ApiFailure as ex:
        assert ex.error.code is ErrorCode.MALFORMED_JSON  # noqa: PT017
