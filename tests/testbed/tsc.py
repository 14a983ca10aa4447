# SPDX-License-Identifier: Apache-2.0
"""The frequency of the time stamp counter, which the emulator passes on from the host.

The testbed's kernel would find it out by comparing it with an emulated timer, for some
milliseconds in which a loaded host may give the emulator no time. It can be wrong by a
factor then, and the machine's clock with it.
"""

import ctypes
import mmap
import time
from collections.abc import Callable

__all__ = ["tsc_khz"]

INTERVAL = 0.1
SAMPLES = 16
RDTSC = (
    b"\x0f\x31"  # rdtsc
    b"\x48\xc1\xe2\x20"  # shl $32, %rdx
    b"\x48\x09\xd0"  # or %rdx, %rax
    b"\xc3"  # ret
)


def tsc_khz() -> int:
    """Measure the frequency."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=protection)
    code.write(RDTSC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    read_tsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    first = sample(read_tsc)
    time.sleep(INTERVAL)
    last = sample(read_tsc)
    return round((last[1] - first[1]) * 1_000_000 / (last[0] - first[0]))


def sample(read_tsc: Callable[[], int]) -> tuple[int, int]:
    """Return the monotonic time and the counter at one moment."""
    best = None
    for _ in range(SAMPLES):
        before, tsc, after = time.monotonic_ns(), read_tsc(), time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) // 2, tsc)
    assert best is not None
    return best[1:]
