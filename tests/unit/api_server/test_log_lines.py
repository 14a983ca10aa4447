# SPDX-License-Identifier: Apache-2.0
import pytest

from api_server.log_lines import logfmt, timestamp


def test_a_moment_is_told_in_utc_to_the_millisecond():
    assert timestamp(1_000_000_000.9996) == "2001-09-09T01:46:40.999Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"


def test_plain_values_are_bare_and_others_are_quoted():
    fields = {"a": "vm.boot", "b": 204, "c": 1.25, "d": "two words", "e": "", "f": None, "g": "é"}
    assert logfmt(fields) == 'a=vm.boot b=204 c=1.250 d="two words" e="" g="\\u00e9"'


@pytest.mark.parametrize("value", ["a\nb", "a=b", 'a"b', "\x00", "\x1b[2J", "a b=c", "\u2028"])
def test_no_value_can_forge_a_field_or_a_line(value):
    line = logfmt({"value": value, "role": "viewer"})
    assert line.isprintable()
    assert line.isascii()
    assert line.startswith('value="')
    assert line.endswith('" role=viewer')
