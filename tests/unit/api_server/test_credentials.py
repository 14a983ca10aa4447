# SPDX-License-Identifier: Apache-2.0
import os
import socket

from api_server.credentials import Credentials, credentials_of, user_name


def test_a_peer_is_known_by_what_it_had_when_it_connected(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        connection, _ = listener.accept()
        with connection:
            found = credentials_of(connection)
    groups = set(os.getgroups())
    assert found == Credentials(os.getpid(), os.geteuid(), os.getegid(), found.groups)
    assert set(found.groups) == groups


def test_users_have_names_or_not():
    assert user_name(0) == "root"
    assert user_name((1 << 32) - 7) is None
