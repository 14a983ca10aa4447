# SPDX-License-Identifier: Apache-2.0
"""The folder of a VM as root makes it for a user, and takes it back."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from ipc_protocol.errors import VmFailure
from ipc_protocol.names import IPC_FILE
from vmm_worker.prepare import folder as subject
from vmm_worker.prepare.folder import MARK, VM_FILE, give_back, make_folder, remove_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")

USER = 64_000


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have some group be the API's."""
    found = grp.getgrnam("daemon")
    monkeypatch.setattr(subject, "_API_GROUP", found.gr_name)
    return found.gr_gid


def owner(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_it_is_the_user_s_and_others_only_pass(tmp_path: Path, group: int) -> None:
    place = tmp_path / "velum" / "web-1"
    make_folder(place, USER, b"{}")
    assert owner(place) == (USER, group, 0o2710)
    assert owner(place / VM_FILE) == (USER, group, 0o400)
    assert (place / VM_FILE).read_bytes() == b"{}"
    assert owner(place.parent)[0] == 0
    remove_folder(place)
    assert not place.exists()
    remove_folder(place)


def test_a_crashed_worker_leaves_its_socket_and_its_mark(tmp_path: Path, group: int) -> None:
    place = tmp_path / "web-1"
    make_folder(place, USER, b"{}")
    listen(place / IPC_FILE)
    listen(place / "console.sock")
    (place / MARK).touch()
    (place / "mine" / "more").mkdir(parents=True)
    give_back(place)
    assert {each.name for each in place.iterdir()} == {IPC_FILE, MARK}
    assert {owner(each)[0] for each in (place, *place.iterdir())} == {0}
    assert owner(place) == (0, group, 0o2710)
    make_folder(place, USER + 1, b"")
    assert {each.name for each in place.iterdir()} == {IPC_FILE, MARK, VM_FILE}
    assert {owner(each)[0] for each in (place, *place.iterdir())} == {USER + 1}


def test_nothing_that_a_user_planted_is_given_to_the_next(tmp_path: Path) -> None:
    place = tmp_path / "web-1"
    precious = tmp_path / "precious"
    precious.write_text("root's")
    os.link(precious, tmp_path / "linked")
    make_folder(place, USER, b"")
    (place / IPC_FILE).symlink_to(precious)
    os.link(precious, place / MARK)
    give_back(place)
    assert not place.exists()
    make_folder(place, USER, b"")
    (place / VM_FILE).unlink()
    (place / VM_FILE).symlink_to(precious)
    make_folder(place, USER, b"new")
    assert owner(precious)[0] == 0
    assert precious.read_text() == "root's"
    assert (place / VM_FILE).read_text() == "new"


def test_without_the_api_s_group_it_says_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_API_GROUP", "velum-no-such-group")
    with pytest.raises(VmFailure, match="systemd-sysusers"):
        make_folder(tmp_path / "web-1", USER, b"")


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "web-1").write_text("a file")
    with pytest.raises(VmFailure, match="web-1"):
        make_folder(tmp_path / "web-1", USER, b"")
