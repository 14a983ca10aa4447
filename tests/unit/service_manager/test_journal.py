# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket

import pytest

from service_manager.journal import journal_stream


def test_lines_come_under_a_name_and_no_prefix_is_a_priority(tmp_path):
    path = tmp_path / "stdout"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        stream = journal_stream("velum-console", path=str(path))
        accepted, _ = listening.accept()
    with accepted, accepted.makefile("rb") as lines:
        os.write(stream, b"<0>hello\n")
        os.close(stream)
        name, unit, priority, *flags, first = lines.read().decode().splitlines()
    assert (name, unit, priority, first) == ("velum-console", "", "6", "<0>hello")
    assert flags == ["0"] * 4


def test_without_a_journal_it_fails(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        journal_stream("velum-console", path=str(tmp_path / "nobody"))
