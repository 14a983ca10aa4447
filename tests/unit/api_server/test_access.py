# SPDX-License-Identifier: Apache-2.0
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from api_server import access as module
from api_server.access import Access
from api_server.credentials import Credentials
from api_server.policy import read_policy
from api_server.roles import Peer, Role
from ipc_protocol.errors import ApiFailure

_ROOT = Credentials(pid=1, uid=0, gid=0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "access.toml"
    _say(path, "viewer")
    return path


def _say(path, role):
    """Replace the file as an editor does."""
    successor = path.with_suffix(".new")
    successor.write_text(f"[{role}]\nusers = ['root']\n")
    successor.chmod(0o644)
    successor.rename(path)


def test_without_a_file_the_default_holds_until_there_is_one(file):
    content = file.read_text()
    file.unlink()
    access = Access(file)
    assert access.role(_ROOT) is Role.ADMIN
    file.write_text(content)
    assert access.role(_ROOT) is Role.VIEWER


def test_a_file_that_was_asked_for_has_to_be_there(tmp_path):
    with pytest.raises(ApiFailure):
        Access(tmp_path / "missing.toml", optional=False)


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_missing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiFailure, match="Not a directory"):
        Access(tmp_path / "file" / "access.toml")


def test_a_change_counts_from_the_next_request_on(file, caplog):
    access = Access(file)
    assert access.role(_ROOT) is Role.VIEWER
    with caplog.at_level(logging.INFO):
        _say(file, "operator")
        assert access.role(_ROOT) is Role.OPERATOR
    assert "read anew" in caplog.text


def test_nobody_is_judged_by_what_a_file_said_before(file, monkeypatch):
    access = Access(file)
    reading, go_on = threading.Event(), threading.Event()

    def read_slowly(path):
        reading.set()
        assert go_on.wait(30)
        return read_policy(path)

    monkeypatch.setattr(module, "read_policy", read_slowly)
    _say(file, "operator")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(access.role, _ROOT)
        assert reading.wait(30)
        second = pool.submit(access.role, _ROOT)
        assert not wait([second], timeout=0.1).done
        go_on.set()
        assert first.result(30) is second.result(30) is Role.OPERATOR


@pytest.mark.parametrize("damage", [lambda path: path.write_text("["), lambda path: path.unlink()])
def test_a_file_that_breaks_changes_nothing_and_is_told_once(file, damage, caplog):
    access = Access(file)
    damage(file)
    assert [access.role(_ROOT) for _ in range(3)] == [Role.VIEWER] * 3
    assert len(caplog.records) == 1
    assert "still holds" in caplog.text
    _say(file, "admin")
    assert access.role(_ROOT) is Role.ADMIN


def test_a_peer_is_told_who_it_is():
    assert str(Peer(_ROOT, "root", Role.VIEWER)) == "user root, who is viewer,"
    assert str(Peer(_ROOT, None, None)) == "user 0, who has no role,"
