# SPDX-License-Identifier: Apache-2.0
"""Errors keep everything they know on their way up."""

from __future__ import annotations

from hypothesis import given

from ipc_protocol.errors import ApiError, ApiFailure, ErrorCode, VmError, VmFailure
from tests.unit.ipc_protocol.strategies import values_of


@given(values_of(VmError))
def test_nothing_is_lost_on_the_way(raised: VmError) -> None:
    error = VmFailure.of(raised).error
    assert (error.code, error.reference) == (raised.code, raised.reference)
    assert [each.pointer for each in error.fields] == [each.pointer for each in raised.fields]
    assert VmFailure.of(error).error == error
    wrapped = ApiError.wrap(error)
    assert wrapped.vm_error is error
    for name in error.__struct_fields__:
        assert getattr(wrapped, name) == getattr(error, name)
    assert str(ApiFailure(wrapped)) == str(VmFailure.of(error)) == error.message


@given(values_of(VmError))
def test_no_words_of_a_client_reach_a_log_or_a_terminal_as_they_are(raised: VmError) -> None:
    error = VmFailure.of(raised).error
    words = (error.message, *error.causes, *(each.message for each in error.fields))
    assert all(text.isprintable() for text in words)


def test_a_path_with_a_line_of_log_in_it_stays_in_its_line() -> None:
    ex = VmFailure(ErrorCode.FILE_UNAVAILABLE, "/a\n12:00 INFO b\x1b[2J\u202e \u00e4")
    assert str(ex) == "/a\\n12:00 INFO b\\x1b[2J\\u202e \u00e4"
