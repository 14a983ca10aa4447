# SPDX-License-Identifier: Apache-2.0
"""Signals as something to poll: they are noted when they come and acted on in the loop."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Final, Self

__all__ = ["Signals"]

_NOTED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGWINCH)
_READ: Final = 64


class Signals:
    """The signals that tell the worker to stop, and SIGWINCH; for the main thread."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _note) for number in _NOTED}
        # Restoring the modes of a terminal whose shell took it back must not stop us.
        self._handlers[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._write_fd)

    def read(self) -> list[signal.Signals]:
        """Return those that came since the last call."""
        try:
            numbers = os.read(self.fd, _READ)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers]


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter has written the number to the pipe already."""
