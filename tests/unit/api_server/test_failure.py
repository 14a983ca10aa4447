# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from api_server.failure import explain, failure
from ipc_protocol.errors import ApiFailure, ErrorCode, VmFailure


def test_a_failure_of_the_api_is_told_as_it_is():
    error = explain(failure(ErrorCode.ROUTE_NOT_FOUND, "no"))
    assert (error.code, error.message, error.reference) == (ErrorCode.ROUTE_NOT_FOUND, "no", None)
    assert isinstance(failure(ErrorCode.INTERNAL, "x"), ApiFailure)


def test_a_failure_of_a_worker_is_carried_whole():
    ex = VmFailure(ErrorCode.VM_NOT_RUNNING, "not running", causes=("because",))
    error = explain(ex)
    assert error.vm_error == ex.error
    assert (error.code, error.message, error.causes) == (
        ErrorCode.VM_NOT_RUNNING,
        "not running",
        ("because",),
    )


@pytest.mark.parametrize(
    "ex", [ZeroDivisionError("secret"), VmFailure(ErrorCode.MALFORMED_MESSAGE, "odd")]
)
def test_a_fault_of_ours_is_logged_under_the_reference_it_is_told_with(ex, caplog):
    with caplog.at_level(logging.ERROR):
        error = explain(ex)
    assert error.reference
    assert error.reference in caplog.text
    assert str(ex) in caplog.text
    assert "secret" not in error.message


def test_a_worker_s_reference_is_kept(caplog):
    error = explain(VmFailure(ErrorCode.INTERNAL, "worker", reference="cafe"))
    assert error.reference == "cafe"
    assert "cafe" in caplog.text
