# SPDX-License-Identifier: Apache-2.0
"""Many threads that convert to one type at the same moment, the first of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CONVERT = """
import sys, threading
import msgspec
from ipc_protocol.messages import VmInfo

sys.setswitchinterval(0.0005)
config = {"payload": {"kernel": "/kernel"}}
info = {"config": config, "state": "Created", "memory_actual_size": 1}
meeting = threading.Barrier(16)

def convert():
    meeting.wait()
    msgspec.convert(info, VmInfo)

threads = [threading.Thread(target=convert) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_to_come_do_not_take_the_process_down(attempt: int) -> None:
    """Of processes that leave it to the first thread to look at a type, nine of ten crash here."""
    del attempt
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", CONVERT], env=environment, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
