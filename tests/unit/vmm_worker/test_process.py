# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import mmap
import os
import subprocess
import sys

from vmm_worker.process import private_memory

SIZE = 32 << 20

# In a process of its own: a thread that a test before has joined may be on its way out still,
# and the kernel counts it until it is gone.
_NUMBERS = """
import os, threading, time
from vmm_worker.process import private_memory, process_metrics

before = process_metrics()
pipe = os.pipe()
leave = threading.Event()
thread = threading.Thread(target=leave.wait)
thread.start()
try:
    after = process_metrics()
finally:
    leave.set()
    thread.join()
assert (before.threads, after.threads) == (1, 2), (before, after)
assert after.open_descriptors == before.open_descriptors + 2, (before, after)
assert 0 < before.cpu_seconds <= after.cpu_seconds <= time.process_time(), (before, after)
assert before.start_time == after.start_time <= time.time(), (before, after)
assert after.resident_bytes >= private_memory() // 2, (before, after)
"""


def test_the_numbers_are_those_of_this_process():
    done = subprocess.run(
        (sys.executable, "-c", _NUMBERS),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_private_memory_is_what_is_touched_and_in_no_file():
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE) as memory:
        untouched = private_memory()
        for page in range(0, SIZE, mmap.PAGESIZE):
            memory[page] = 1
        touched = private_memory()
    # The kernel's sums are exact but for a few pages for each CPU.
    assert touched - untouched >= SIZE * 3 // 4
