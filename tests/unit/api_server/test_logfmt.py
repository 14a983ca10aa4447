# SPDX-License-Identifier: Apache-2.0
import pytest

from api_server.logfmt import logfmt


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
