# SPDX-License-Identifier: Apache-2.0
"""The parent of the process that serves: replaces it when it hangs or dies, and is supervised.

The service manager's watchdog is about both. This process sends the signs of life, and only
while the one that serves gives some, by its heartbeat, of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from service_manager.notify import notify, watchdog_seconds

__all__ = ["ApiArbiter", "heartbeat_seconds"]

_HEARTBEAT = 60
"""Seconds after which a serving process that does not even poll is replaced."""
_LEAST_HEARTBEAT = 4
"""Seconds; it gives a sign of life in each."""


def heartbeat_seconds() -> int:
    """Return after how many seconds without a sign of life the serving process is replaced.

    With a watchdog that is half of its time: it is for the case that this does not help.
    """
    watchdog = watchdog_seconds()
    if watchdog is None:
        return _HEARTBEAT
    return max(_LEAST_HEARTBEAT, min(_HEARTBEAT, int(watchdog / 2)))


class ApiArbiter(Arbiter):
    """gunicorn's arbiter as the main process of a service.

    Args:
        app: What is served.
        release: Gives up the paths of the sockets that are the server's own.
    """

    def __init__(self, app: BaseApplication, release: Callable[[], None]) -> None:
        super().__init__(app)
        self._release = release
        self._supervised = watchdog_seconds() is not None
        # Or else it would remove the path of every socket, whoever made that.
        self.systemd = True

    def start(self) -> None:
        """Begin, and leave it to the process that serves to say when it does."""
        with _unheard():
            super().start()

    def murder_workers(self) -> None:
        """Replace a process that hangs; called about once a second."""
        super().murder_workers()
        if self._supervised and any(map(self._lives, self.WORKERS.values())):
            notify(WATCHDOG=1)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Stop listening, and end the process that serves."""
        notify(STOPPING=1, STATUS="ending: requests under way are answered first")
        self._release()
        super().stop(graceful)

    def _lives(self, worker: object) -> bool:
        try:
            silence = time.monotonic() - worker.tmp.last_update()  # type: ignore[attr-defined]
        except (OSError, ValueError):
            return False  # It has just been reaped.
        return bool(silence <= self.timeout)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Have nobody notified meanwhile: gunicorn would say that it is ready when it is not."""
    address = os.environ.pop("NOTIFY_SOCKET", None)
    try:
        yield
    finally:
        if address is not None:
            os.environ["NOTIFY_SOCKET"] = address
