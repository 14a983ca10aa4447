# SPDX-License-Identifier: Apache-2.0
"""What the document on access says is what the server does."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from api_server import policy
from api_server.authorization import require_resources
from api_server.credentials import Credentials
from api_server.problem import encode, problem
from api_server.roles import Peer, Role
from api_server.routes import ROUTES
from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ApiFailure

TEXT = (Path(__file__).parents[3] / "docs" / "access.md").read_text()


class _Request:
    """As much of a request as is judged."""

    path = "/api/v1/vm.create"

    class context:  # noqa: N801 - an attribute of Falcon's
        peer = Peer(Credentials(1, 1003, 1003), None, Role.OPERATOR)


@pytest.mark.parametrize("role", Role, ids=str)
def test_the_table_of_operations_is_the_table_of_routes(role):
    (row,) = re.findall(rf"^\| `{role}` \| (`.*`) \|$", TEXT, re.MULTILINE)
    written = re.findall(r"`([^`]+)`", row)
    routed = {path.rpartition("/")[2] for path, route in ROUTES.items() if route.role is role}
    assert set(written) == routed
    assert len(written) == len(routed)


def test_the_example_of_the_file_is_one():
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = msgspec.convert(tomllib.loads(example), policy._File)
    assert file.viewer.users == ("prometheus", 1003)


def test_the_example_of_a_refusal_is_what_is_answered():
    example = re.search(r"```json\n(\{.*?)```", TEXT, re.DOTALL)[1]
    document = {"payload": {"kernel": "/k"}, "disks": [{"path": "/d"}]}
    with pytest.raises(ApiFailure) as refused:
        require_resources(_Request(), msgspec.convert(document, VmConfig))
    answered = problem(refused.value.error, "8c1f0a6be1d94f27")
    assert msgspec.json.decode(example) == msgspec.json.decode(encode(answered))
