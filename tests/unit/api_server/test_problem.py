# SPDX-License-Identifier: Apache-2.0
import json

from api_server.problem import encode, problem
from ipc_protocol.errors import ApiError, ErrorCode, FieldError, VmError


def test_a_problem_has_all_members_of_its_error():
    error = ApiError.wrap(
        VmError(
            code=ErrorCode.INVALID_CONFIG,
            message="two fields are wrong",
            causes=("outer", "root"),
            fields=(FieldError("/cpus/boot_vcpus", "must be 1..254"), FieldError("", "é")),
        )
    )
    assert json.loads(encode(problem(error, "r-1"))) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "two fields are wrong",
        "code": "invalid_config",
        "causes": ["outer", "root"],
        "errors": [
            {"pointer": "/cpus/boot_vcpus", "message": "must be 1..254"},
            {"pointer": "", "message": "é"},
        ],
        "request_id": "r-1",
    }


def test_a_reference_is_shown_when_there_is_one():
    error = ApiError(code=ErrorCode.INTERNAL, message="x", reference="abc")
    assert json.loads(encode(problem(error, "r-1")))["reference"] == "abc"
    assert problem(error, "r-1").status == 500


def test_every_code_makes_a_problem():
    for code in ErrorCode:
        document = json.loads(encode(problem(ApiError(code=code, message="m"), "r-1")))
        assert document["code"] == code
        assert document["title"]
        assert 400 <= document["status"] < 600
