# SPDX-License-Identifier: Apache-2.0
"""Signals in the poll set."""

from __future__ import annotations

import os
import select
import signal

from vmm_worker.signals import Signals


def test_signals_are_read_in_order_and_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signals.read() == []
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert select.select([signals.fd], [], [], 20.0)[0]
        read = signals.read()
        while len(read) < 2:
            assert select.select([signals.fd], [], [], 20.0)[0]
            read += signals.read()
        assert read == [signal.SIGTERM, signal.SIGHUP]
        fd = signals.fd
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
    try:
        os.fstat(fd)
    except OSError:
        return
    raise AssertionError("the pipe is still open")
