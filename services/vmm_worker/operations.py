# SPDX-License-Identifier: Apache-2.0
"""The thread on which everything happens that changes the VM, one thing at a time."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.server import outcome
from vmm_worker.log import log_for
from vmm_worker.progress import Progress

__all__ = ["Job", "Operations"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Something to do on the operations thread."""

    run: Callable[[Progress], object]
    done: Callable[[object], None] = lambda _: None
    """Called by :meth:`Operations.collect` with the value, or the ``VmError``."""
    kind: str | None = None
    """Of two requests of one kind the second is refused; ``None`` for the loop's own jobs."""
    request_id: str = ""
    """What the lines are logged for that it logs."""
    progress: Progress = field(default_factory=Progress)


class Operations:
    """A queue of jobs and the thread that does them.

    All methods are for the thread that polls :attr:`done_fd`.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._finished: deque[tuple[Job, object]] = deque()
        self._kinds: set[str] = set()
        self._closing = False
        self.done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when a job is finished."""
        # A daemon, so that one stuck in the kernel cannot keep the process from its end.
        self._thread = threading.Thread(target=self._work, name="operations", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            VmFailure: ``operation_in_progress`` when one of its kind is not finished; so
                the queue cannot grow beyond the number of kinds.
        """
        if job.kind is not None:
            if job.kind in self._kinds:
                raise VmFailure(
                    ErrorCode.OPERATION_IN_PROGRESS, f"{job.kind} is already in progress"
                )
            self._kinds.add(job.kind)
        with self._condition:
            self._waiting.append(job)
            self._condition.notify()

    def withdraw(self, job: Job) -> bool:
        """Take a job out of the queue, and say whether it was still there."""
        with self._condition:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
        self._release(job)
        return True

    def cancel(self, failure: VmFailure) -> None:
        """Have every job that is not finished fail as soon as it can be cancelled."""
        with self._condition:
            running = [] if self._running is None else [self._running]
            for job in (*running, *self._waiting):
                job.progress.cancel(failure)

    def collect(self) -> None:
        """Give each finished job's outcome to its ``done``."""
        try:
            os.eventfd_read(self.done_fd)
        except BlockingIOError:
            return
        while self._finished:
            job, result = self._finished.popleft()
            self._release(job)
            job.done(result)

    def close(self, timeout: float) -> bool:
        """Let the thread finish what is queued, and say whether it did so in time."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        os.close(self.done_fd)
        return True

    def _release(self, job: Job) -> None:
        if job.kind is not None:
            self._kinds.discard(job.kind)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            with log_for(job.request_id):
                result: object | VmError = outcome(partial(job.run, job.progress))
            self._finished.append((job, result))
            os.eventfd_write(self.done_fd, 1)

    def _next(self) -> Job | None:
        with self._condition:
            self._running = None
            while not self._waiting:
                if self._closing:
                    return None
                self._condition.wait()
            self._running = self._waiting.popleft()
            return self._running
