# SPDX-License-Identifier: Apache-2.0
import logging
import os

import pytest

from api_server.credentials import Credentials
from api_server.policy import Policy, default_policy, read_policy
from api_server.roles import Role
from ipc_protocol.errors import ApiFailure, ErrorCode

_STRANGER = Credentials(pid=1, uid=77777, gid=77777)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "access.toml"
    path.write_text("")
    path.chmod(0o644)
    return path


def _with(uid=77777, gid=77777, groups=()):
    return Credentials(1, uid, gid, groups)


def test_by_default_only_root_and_ourselves_and_the_group_may():
    policy = default_policy()
    assert policy.role(_with(uid=0)) is Role.ADMIN
    assert policy.role(_with(uid=os.geteuid())) is Role.ADMIN
    assert policy.role(_STRANGER) is None
    assert set(policy.groups.values()) <= {Role.ADMIN}


def test_a_role_comes_from_the_user_or_any_group_and_the_highest_counts():
    policy = Policy({1: Role.OPERATOR}, {10: Role.VIEWER, 11: Role.ADMIN})
    assert policy.role(_with(uid=1)) is Role.OPERATOR
    assert policy.role(_with(gid=10)) is Role.VIEWER
    assert policy.role(_with(groups=(9, 10))) is Role.VIEWER
    assert policy.role(_with(uid=1, gid=10)) is Role.OPERATOR
    assert policy.role(_with(uid=1, groups=(11,))) is Role.ADMIN
    assert policy.role(_STRANGER) is None


def test_a_file_names_users_and_groups(file):
    file.write_text(
        """
        [admin]
        users = ["root"]
        groups = [5]

        [operator]
        users = [1003, 0]

        [viewer]
        groups = ["root", 5]
        """
    )
    policy = read_policy(file)
    assert policy.users == {0: Role.ADMIN, 1003: Role.OPERATOR}
    assert policy.groups == {5: Role.ADMIN, 0: Role.VIEWER}
    assert policy.role(_STRANGER) is None


def test_an_empty_file_lets_nobody_in(file):
    assert read_policy(file).role(_with(uid=0)) is None


def test_a_name_that_is_not_there_is_told_and_gives_nobody_anything(file, caplog):
    file.write_text("[admin]\nusers = ['no-such-user', 'root']\ngroups = ['no-such-group']\n")
    with caplog.at_level(logging.WARNING):
        policy = read_policy(file)
    assert policy == Policy({0: Role.ADMIN}, {})
    assert "'no-such-user'" in caplog.text
    assert "'no-such-group'" in caplog.text
    assert str(file) in caplog.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"admin\n", "line 1"),
        (b"[admin]\nuser = ['root']\n", "`user`"),
        (b"[owner]\nusers = ['root']\n", "`owner`"),
        (b"[admin]\nusers = 'root'\n", "$.admin.users"),
        (b"[admin]\nusers = [1.5]\n", "$.admin.users[0]"),
        (b"[admin]\nusers = ['\xff']\n", "utf-8"),
        (b"#" * (2 << 20), "larger"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_with_the_place(file, content, expected):
    file.write_bytes(content)
    with pytest.raises(ApiFailure) as refused:
        read_policy(file)
    assert refused.value.error.code is ErrorCode.INVALID_CONFIG
    assert expected in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_could_have_written_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(ApiFailure, match="others could have written it") as refused:
        read_policy(file)
    assert "chmod" in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_file_of_somebody_else_is_refused(file):
    os.chown(file, 77777, 0)
    with pytest.raises(ApiFailure, match="uid 77777"):
        read_policy(file)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ApiFailure) as refused:
        read_policy(tmp_path / "missing.toml")
    assert refused.value.error.code is ErrorCode.FILE_UNAVAILABLE
    assert "missing.toml" in str(refused.value)
