# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import mmap
import os
import threading
import time

from vmm_worker.process import private_memory, process_metrics

SIZE = 32 << 20


def test_the_numbers_are_those_of_this_process():
    before = process_metrics()
    reading, writing = os.pipe()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    try:
        after = process_metrics()
    finally:
        leave.set()
        thread.join()
        os.close(reading)
        os.close(writing)
    assert after.open_descriptors == before.open_descriptors + 2
    assert after.threads == before.threads + 1
    assert 0 < before.cpu_seconds <= after.cpu_seconds <= time.process_time()
    assert before.start_time == after.start_time <= time.time()
    assert after.resident_bytes >= private_memory() // 2


def test_private_memory_is_what_is_touched_and_in_no_file():
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE) as memory:
        untouched = private_memory()
        for page in range(0, SIZE, mmap.PAGESIZE):
            memory[page] = 1
        touched = private_memory()
    # The kernel's sums are exact but for a few pages for each CPU.
    assert touched - untouched >= SIZE * 3 // 4
