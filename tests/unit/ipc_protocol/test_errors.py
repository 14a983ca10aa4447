# SPDX-License-Identifier: Apache-2.0
"""Errors keep everything they know on their way up."""

from __future__ import annotations

from hypothesis import given

from ipc_protocol.errors import ApiError, ApiFailure, VmError, VmFailure
from tests.unit.ipc_protocol.strategies import values_of


@given(values_of(VmError))
def test_nothing_is_lost_on_the_way(error: VmError) -> None:
    assert VmFailure.of(error).error == error
    wrapped = ApiError.wrap(error)
    assert wrapped.vm_error is error
    for name in error.__struct_fields__:
        assert getattr(wrapped, name) == getattr(error, name)
    assert str(ApiFailure(wrapped)) == str(VmFailure.of(error)) == error.message
