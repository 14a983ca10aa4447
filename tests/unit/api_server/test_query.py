# SPDX-License-Identifier: Apache-2.0
import pytest

from api_server.query import Parameter, read_query
from ipc_protocol.errors import ApiFailure, ErrorCode

PARAMETERS = (Parameter("dry", ("no", "yes"), "Only look."), Parameter("how", ("a", "b"), "How."))


def test_what_is_not_given_is_the_first_choice():
    assert read_query("", PARAMETERS) == {"dry": "no", "how": "a"}
    assert read_query("how=b&dry=yes", PARAMETERS) == {"dry": "yes", "how": "b"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("other=1", "'other'"),
        ("%0a=1", r"'\n'"),
        ("dry", "no or yes"),
        ("dry=", "no or yes"),
        ("dry=maybe", "'maybe'"),
        ("dry=yes&dry=no", "twice"),
        ("&".join(f"a{i}=1" for i in range(1000)), "more than"),
        ("x" * 100_000, "'xxx"),
    ],
)
def test_everything_else_is_refused_by_name(text, named):
    with pytest.raises(ApiFailure) as caught:
        read_query(text, PARAMETERS)
    assert caught.value.error.code is ErrorCode.INVALID_REQUEST
    assert named in caught.value.error.message
    assert len(caught.value.error.message) < 300
