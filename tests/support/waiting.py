# SPDX-License-Identifier: Apache-2.0
"""Wait for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_until"]


def wait_until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Wait for something that can only be asked for, and takes far less than the time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.0005)
