# SPDX-License-Identifier: Apache-2.0
from http import HTTPStatus

from api_server.status import STATUS
from ipc_protocol.errors import ErrorCode


def test_every_error_code_has_a_status():
    assert set(STATUS) == set(ErrorCode)


def test_every_status_is_one_of_the_documented():
    documented = {400, 403, 404, 405, 409, 413, 415, 422, 429, 500, 501, 503, 504}
    assert set(STATUS.values()) == {HTTPStatus(status) for status in documented}
