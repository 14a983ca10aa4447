# SPDX-License-Identifier: Apache-2.0
"""Descriptors arrive at numbers that only a new process has free."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_CHILD = """
import json, os, sys
os.environ["LISTEN_PID"] = sys.argv[1].replace("own", str(os.getpid()))
from service_manager.passed import listen_fds
found = listen_fds()
inherited = [os.get_inheritable(each.fd) for each in found]
left = sorted(name for name in os.environ if name.startswith("LISTEN_"))
print(json.dumps([found, inherited, left, listen_fds()]))
"""
_LAUNCHER = """
import os, sys
reading, writing = os.pipe()
high = [os.dup(fd) for fd in (reading, writing) for _ in range(4)]
os.dup2(high[3], 3), os.dup2(high[7], 4)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


def _passed(owner, **environment):
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-c", _LAUNCHER, _CHILD, owner]
    answer = subprocess.run(command, env=given, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(answer)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("api:metrics", [["api", 3], ["metrics", 4]]),
        ("", [["unknown", 3], ["unknown", 4]]),
        ("api", [["api", 3], ["unknown", 4]]),
    ],
)
def test_they_come_by_name_once_and_no_child_inherits_them(names, found):
    answer = _passed("own", LISTEN_FDS="2", LISTEN_FDNAMES=names)
    assert answer == [found, [False, False], [], []]


@pytest.mark.parametrize(
    ("owner", "count"), [("1", "2"), ("", "2"), ("own", ""), ("own", "some"), ("own", "0")]
)
def test_what_was_meant_for_another_is_left_alone(owner, count):
    assert _passed(owner, LISTEN_FDS=count, LISTEN_FDNAMES="api")[0] == []
