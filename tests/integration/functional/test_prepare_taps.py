# SPDX-License-Identifier: Apache-2.0
"""Taps that are there before a worker that may make none; in a host of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.network import namespace_problem

_PROBLEM = namespace_problem()
pytestmark = pytest.mark.skipif(_PROBLEM is not None, reason=_PROBLEM or "")

_SCRIPT = """
import os, sys
from pathlib import Path
from ipc_protocol.validation import parse_file
from vmm_worker.devices.interface import Interface
from vmm_worker.devices.tap import Tap, set_up
from vmm_worker.prepare.taps import make_taps, remove_taps

USER = 64000
net = [
    {"tap": "one", "ip": "10.7.0.1", "mask": "255.255.0.0", "mtu": 1400},
    {"tap": "many", "num_queues": 4},
    {"tap": "theirs"},
]
cpus = {"boot_vcpus": 2, "max_vcpus": 2}
host = {"taps": "prepare"}
file = parse_file({"payload": {"kernel": "/k"}, "cpus": cpus, "net": net, "host": host})
theirs = Tap("theirs", 1, "/net/2/tap")
make_taps(file, USER)
make_taps(file, USER)  # What is there is left as it is.
owners = {name: int(Path("/sys/class/net", name, "owner").read_text()) for name in ("one", "many")}
assert owners == {"one": USER, "many": USER}, owners
assert Path("/sys/class/net/theirs/owner").read_text().strip() == "-1"

if os.fork() == 0:
    os.setresuid(USER, USER, USER)
    for wanted in file.config.net[:2]:
        tap = Tap(wanted.tap, wanted.num_queues // 2, "/net/0/tap")
        assert set_up(tap, wanted) == (wanted.mtu or 1500)
        tap.close()
    os._exit(0)
assert os.wait()[1] == 0
remove_taps(file, USER)
assert not Interface("one").exists and not Interface("many").exists
assert Interface("theirs").exists
remove_taps(file, USER)
"""


def test_they_belong_to_the_vm_s_user_who_needs_no_right_more() -> None:
    # /dev/net/tun is everybody's where udev made it, root's alone where it did not.
    own_host = """
        mount --types sysfs sysfs /sys || exit
        if [ "$(stat --format %a /dev/net/tun)" != 666 ]; then
            mount --types tmpfs tmpfs /dev/net && mknod --mode 666 /dev/net/tun c 10 200 || exit
        fi
        exec "$@"
    """
    command = ("unshare", "--net", "--mount", "sh", "-c", own_host, "sh", sys.executable, "-c")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        (*command, _SCRIPT), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
