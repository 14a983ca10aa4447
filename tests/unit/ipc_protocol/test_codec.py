# SPDX-License-Identifier: Apache-2.0
"""The codec: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipc_protocol import codec
from ipc_protocol.config_devices import SerialMode
from ipc_protocol.errors import ErrorCode, VmFailure
from tests.unit.ipc_protocol.strategies import PLAIN


def refusal(data: bytes) -> str:
    with pytest.raises(VmFailure) as caught:
        codec.decode(data)
    assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE
    return caught.value.error.message


@given(PLAIN)
def test_plain_values_round_trip(value: object) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(st.binary(max_size=200))
@example(b"\xde\x00\x01\x80\xc0")  # a map as the key of a map
@example(b"\x81\x91\xc0\xc0")
@example(b"\xd9")
@example(b"\xc6\x00")
def test_random_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except VmFailure as ex:
        refused = ex.error.code
    else:
        refused = None
        # Compared as text: NaN is not equal to itself.
        assert repr(value) == repr(msgpack.unpackb(data))
    assert refused in (None, ErrorCode.MALFORMED_MESSAGE)


@given(PLAIN, st.data())
def test_what_is_cut_short_or_goes_on_is_refused(value: object, data: st.DataObject) -> None:
    encoded = codec.encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    refusal(encoded[:cut])
    assert "more follows" in refusal(encoded + b"\xc0")


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def test_depth_is_bounded() -> None:
    codec.decode(nested(codec.MAX_DEPTH))
    assert "deep" in refusal(nested(codec.MAX_DEPTH + 1))
    assert "deep" in refusal(nested(4_000_000))
    assert "deep" in refusal(b"\x81\xa1k" * 1_000_000 + b"\xc0")


def test_size_is_bounded_both_ways() -> None:
    text = "x" * codec.MAX_STRING
    codec.decode(codec.encode([text] * 4))
    with pytest.raises(VmFailure, match="bytes"):
        codec.encode([text] * 5)
    assert "bytes" in refusal(b"\xc0" * (codec.MAX_MESSAGE + 1))
    assert "max_str_len" in refusal(msgpack.packb(text + "x"))
    assert "max_bin_len" in refusal(msgpack.packb(b"x" * (codec.MAX_STRING + 1)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array announcing 4 Gi items"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map announcing 4 Gi items"),
        pytest.param(b"\xdd\x00\x40\x00\x00" + b"\x80" * (4 << 20), id="4 Mi empty maps"),
        pytest.param((b"\xdc\xff\x00" + b"\xc0" * 0xFF00) * 2, id="two arrays"),
    ],
)
def test_the_number_of_values_is_bounded_before_any_is_made(data: bytes) -> None:
    assert "values" in refusal(data) or "more follows" in refusal(data)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (msgpack.ExtType(5, b"x"), "extension"),
        (msgpack.Timestamp(1, 0), "extension"),
        ({1: 2}, "map key"),
        ({b"k": 2}, "not a string"),
        ({None: 2}, "map key"),
    ],
)
def test_types_that_no_message_has_are_refused(value: object, reason: str) -> None:
    assert reason in refusal(msgpack.packb(value))


def test_a_key_that_occurs_twice_is_refused() -> None:
    assert "twice" in refusal(b"\x82\xa1k\x01\xa1k\x02")


def test_text_that_is_no_utf8_is_refused() -> None:
    assert "utf-8" in refusal(b"\xa1\xff")


@pytest.mark.parametrize("value", ["\udcff", 1 << 64, object(), {1: 1}])
def test_what_the_other_side_would_refuse_is_not_sent(value: object) -> None:
    with pytest.raises(VmFailure) as caught:
        codec.decode(codec.encode(value))
    assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


def test_values_that_contain_themselves_are_not_sent() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(VmFailure):
        codec.encode(value)


def test_lossy_text_arrives_with_escapes() -> None:
    assert codec.decode(codec.encode("/tmp/\udcff", lossy=True)) == r"/tmp/\udcff"


def test_conversion_is_strict() -> None:
    assert codec.convert("Tty", SerialMode) is SerialMode.TTY
    for value, target in (("1", int), (1, bool), (True, int), (1, str), (b"x", str), ({}, None)):
        with pytest.raises(VmFailure) as caught:
            codec.convert(value, target)
        assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


def test_structs_travel_as_maps() -> None:
    class Point(msgspec.Struct):
        x: int

    assert codec.decode(codec.encode([Point(1)])) == [{"x": 1}]
