# SPDX-License-Identifier: Apache-2.0
"""The key=value syntax of the command line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc_protocol.options import OptionError, Options, parse

KEYS = ("size", "file", "boot", "on")
FLAGS = ("tty", "null")


def read(text: str) -> Options:
    return parse(text, keys=KEYS, flags=FLAGS)


@pytest.mark.parametrize(
    ("text", "values", "flags"),
    [
        ("", {}, set()),
        ("size=1", {"size": "1"}, set()),
        ("size=1,boot=2", {"size": "1", "boot": "2"}, set()),
        ("tty", {}, {"tty"}),
        ("tty,size=1", {"size": "1"}, {"tty"}),
        ("file=", {}, set()),
        ("file=/a=b", {"file": "/a=b"}, set()),
        ('file="/a,b"', {"file": "/a,b"}, set()),
        ('file=/a" b"c', {"file": "/a bc"}, set()),
        ('file="[",boot=1', {"file": "[", "boot": "1"}, set()),
        ("file=[1,2],boot=1", {"file": "[1,2]", "boot": "1"}, set()),
        ("file=[a@[1,2],b@[3]]", {"file": "[a@[1,2],b@[3]]"}, set()),
        ('"size=1"', {"size": "1"}, set()),
    ],
)
def test_what_is_understood(text: str, values: dict[str, str], flags: set[str]) -> None:
    options = read(text)
    assert {key: options.text(key) for key in KEYS if key in options} == values
    assert options.flags == flags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise=1", "unknown key 'sise'; known keys: boot, file, null, on, size, tty"),
        ("size=1,", "unknown key ''; known keys: boot, file, null, on, size, tty"),
        (",", "unknown key ''; known keys: boot, file, null, on, size, tty"),
        ("size", "'size' needs a value: size=..."),
        ("tty=1", "'tty' takes no value"),
        ("tty=", "'tty' takes no value"),
        ("size=1,size=2", "'size' is given twice"),
        ("tty,tty", "'tty' is given twice"),
        ('file="a', "a quote is not closed in 'file=\"a'"),
        ("file=[a", "a bracket is not closed in 'file=[a'"),
        ("file=a]", "']' without '[' in 'file=a]'"),
        (" size=1", "unknown key ' size'; known keys: boot, file, null, on, size, tty"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1 << 10),
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("007", 7),
        (str((1 << 63) - 1), (1 << 63) - 1),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert read(f"size={text}").size("size") == value


@pytest.mark.parametrize(
    "text", ["M", "1T", "1m", "1MB", "-1", "+1", "1.5G", "0x10", "1_0", "\u00b9", "\u0663"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError, match="expected a size such as 512M or 2G"):
        read(f"size={text}").size("size")


@pytest.mark.parametrize("text", [str(1 << 63), "9" * 5000, f"{1 << 40}G", "8589934592G"])
def test_a_size_beyond_64_bits(text: str) -> None:
    with pytest.raises(OptionError, match="too large"):
        read(f"size={text}").size("size")


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("true", True), ("off", False), ("false", False)]
)
def test_toggles(text: str, value: bool) -> None:
    assert read(f"on={text}").toggle("on") is value


@pytest.mark.parametrize("text", ["ON", "yes", "1", "tru"])
def test_what_is_no_toggle(text: str) -> None:
    with pytest.raises(OptionError, match=f"on={text}: expected on, off, true or false"):
        read(f"on={text}").toggle("on")


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4:5", "1::2:3", "1:2:3:x", ":::"])
def test_what_is_no_list_of_four(text: str) -> None:
    options = parse(f'file="{text}"', keys=KEYS)
    if not text:
        assert options.integers("file", count=4) is None
        return
    with pytest.raises(OptionError, match="expected 4 numbers separated by ':'"):
        options.integers("file", count=4)


def test_a_list_of_four() -> None:
    assert read("file=1:2:3:4").integers("file", count=4) == [1, 2, 3, 4]


def test_what_is_not_given() -> None:
    options = read("file=")
    assert options.text("file") is None
    assert options.integer("boot") is None
    assert options.size("size") is None
    assert options.toggle("on") is None
    assert options.integers("file", count=4) is None


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(OptionError):
        options = read(text)
        options.size("size")
        options.integer("boot")
        options.toggle("on")
        options.integers("file", count=4)


@given(st.dictionaries(st.sampled_from(KEYS), st.text(st.characters(exclude_characters='"'))))
def test_quoted_values_come_back_as_they_were(values: dict[str, str]) -> None:
    options = read(",".join(f'{key}="{value}"' for key, value in values.items()))
    assert {key: options.text(key) or "" for key in values} == values


@given(st.integers(0, (1 << 63) - 1))
def test_numbers_come_back_as_they_were(value: int) -> None:
    assert read(f"boot={value}").integer("boot") == value
    assert read(f"size={value}").size("size") == value


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("[]", []),
        ("[0@[1]]", [(0, [1])]),
        ("[0@[1,3],12@[4-6,9]]", [(0, [1, 3]), (12, [4, 5, 6, 9])]),
    ],
)
def test_lists_of_numbers_by_number(text: str, pairs: list[tuple[int, list[int]]]) -> None:
    assert read(f"file={text}").tuples("file") == pairs
    assert read("").tuples("file") is None


@pytest.mark.parametrize(
    "text",
    ["0@[1]", "[0]", "[0@1]", "[0@[]]", "[0@[1-]]", "[0@[3-1]]", "[a@[1]]", "[0@[0-9999999]]"],
)
def test_what_is_no_list_of_numbers_by_number(text: str) -> None:
    with pytest.raises(OptionError, match="file="):
        read(f"file={text}").tuples("file")
