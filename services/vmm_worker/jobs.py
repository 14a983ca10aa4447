# SPDX-License-Identifier: Apache-2.0
"""What clients have asked for that changes the VM: begun once, answered to all, kept a while."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.jobs import JobInfo, JobState
from ipc_protocol.server import Incoming
from vmm_worker.idempotency import Keys, fingerprint
from vmm_worker.operations import Job, Operations
from vmm_worker.progress import Progress

__all__ = ["KEPT", "Jobs"]

_log = logging.getLogger(__name__)

KEPT: Final = 64
"""Jobs that ``vmm.jobs`` shows; one that is not over is always among them."""


class _Call:
    """One operation, from its first request to what came of it."""

    def __init__(
        self,
        incoming: Incoming,
        run: Callable[[Progress], object],
        done: Callable[[_Call, object], None],
    ) -> None:
        self.id = os.urandom(6).hex()
        self.operation = incoming.operation
        self.key = incoming.context.idempotency_key
        self.callers: list[Incoming] = []
        """Who waits for the result."""
        self.result: object = None
        self.over = False
        self.job = Job(
            self._run,
            partial(done, self),
            kind=self.operation,
            request_id=incoming.context.request_id,
        )
        self._perform = run
        self._detached = False
        self._submitted = time.time()
        self._started: float | None = None
        self._ended: float | None = None

    def join(self, incoming: Incoming) -> None:
        """Count in who asks for it, the first or a retry."""
        if incoming.context.respond_async:
            self._detached = True
        elif not self.over:
            self.callers.append(incoming)

    def end(self, result: object) -> None:
        """Note what came of it."""
        self.result = result
        self._ended = time.time()
        self.over = True

    @property
    def error(self) -> VmError | None:
        """Why it failed, if it did."""
        return self.result if isinstance(self.result, VmError) else None

    @property
    def info(self) -> JobInfo:
        """The job as it is now."""
        state, point = self._state, self.job.progress.point
        return JobInfo(
            id=self.id,
            operation=self.operation,
            state=state,
            progress=1.0 if state is JobState.SUCCEEDED else point.fraction,
            stage=point.stage,
            request_id=self.job.request_id,
            submitted=self._submitted,
            started=self._started,
            ended=self._ended,
            error=self.error,
        )

    @property
    def _state(self) -> JobState:
        if self.over:
            if self.error is None:
                return JobState.SUCCEEDED
            cancelled = self.error.code is ErrorCode.OPERATION_CANCELLED
            return JobState.CANCELLED if cancelled else JobState.FAILED
        return JobState.QUEUED if self._started is None else JobState.RUNNING

    def _run(self, progress: Progress) -> object:
        self._started = time.time()
        try:
            self._check_wanted()
            return self._perform(progress)
        except VmFailure as ex:
            _log.info("%s failed: %s (%s)", self.operation, ex, ex.error.code)
            raise

    def _check_wanted(self) -> None:
        if not self._detached and all(each.expired for each in self.callers):
            raise VmFailure(
                ErrorCode.VMM_TIMEOUT,
                f"{self.operation}: its caller's deadline passed before its turn came",
            )


class Jobs:
    """The jobs of one worker, for the thread that owns the operations.

    Args:
        operations: Where they are done.
        answer: Sends a value or a ``VmError`` to who asked.
    """

    def __init__(self, operations: Operations, answer: Callable[[Incoming, object], None]) -> None:
        self._operations = operations
        self._answer = answer
        self._calls: dict[str, _Call] = {}
        self._keys: Keys[_Call] = Keys()
        self._ends = dict.fromkeys((JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED), 0)

    def begin(
        self,
        incoming: Incoming,
        run: Callable[[Progress], object],
        done: Callable[[object], None],
    ) -> None:
        """Queue what a request asks for, unless it repeats one that is known; see to its answer.

        Args:
            incoming: The request.
            run: Does it, on the operations thread.
            done: Called with the result when all who wait have it.
        """
        try:
            call = self._repeated(incoming) or self._submit(incoming, run, done)
        except VmFailure as ex:
            self._answer(incoming, ex.error)
            return
        if incoming.context.respond_async:
            self._answer(incoming, call.info)
        elif call.over:
            self._answer(incoming, call.result)

    def infos(self) -> tuple[JobInfo, ...]:
        """Return all jobs there are, newest last."""
        return tuple(call.info for call in self._calls.values())

    def by_state(self) -> dict[JobState, int]:
        """Return how many wait and run now, and how many ever ended in each way."""
        under_way = [call.info.state for call in self._calls.values() if not call.over]
        return {
            **{each: under_way.count(each) for each in (JobState.QUEUED, JobState.RUNNING)},
            **self._ends,
        }

    def cancel(self, job_id: str) -> None:
        """End a job that waits for its turn, or have one that runs end when it can.

        Raises:
            VmFailure: ``job_unknown`` or ``job_finished``.
        """
        call = self._calls.get(job_id)
        if call is None:
            raise VmFailure(
                ErrorCode.JOB_UNKNOWN,
                f"there is no job {job_id!a}; vmm.jobs lists the last {KEPT}",
            )
        if call.over:
            raise VmFailure(
                ErrorCode.JOB_FINISHED,
                f"the job {job_id} ({call.operation}) is over already: {call.info.state}",
            )
        failure = VmFailure(
            ErrorCode.OPERATION_CANCELLED, f"{call.operation} was cancelled by vmm.cancel"
        )
        call.job.progress.cancel(failure)
        if self._operations.withdraw(call.job):
            call.job.done(failure.error)

    def _repeated(self, incoming: Incoming) -> _Call | None:
        key = incoming.context.idempotency_key
        call = None if key is None else self._keys.find(key, fingerprint(incoming))
        if call is not None:
            call.join(incoming)
        return call

    def _submit(
        self,
        incoming: Incoming,
        run: Callable[[Progress], object],
        done: Callable[[object], None],
    ) -> _Call:
        def end(call: _Call, result: object) -> None:
            self._end(call, result)
            done(result)

        call = _Call(incoming, run, end)
        # Before it may run: it asks then whether anybody still waits.
        call.join(incoming)
        self._operations.submit(call.job)
        self._calls[call.id] = call
        if call.key is not None:
            self._keys.begin(call.key, fingerprint(incoming), call)
        self._forget()
        return call

    def _end(self, call: _Call, result: object) -> None:
        call.end(result)
        self._ends[call.info.state] += 1
        if call.key is not None:
            self._keys.end(call.key, succeeded=call.error is None)
        for incoming in call.callers:
            self._answer(incoming, result)
        call.callers.clear()

    def _forget(self) -> None:
        over = [call.id for call in self._calls.values() if call.over]
        for job_id in over[: max(0, len(self._calls) - KEPT)]:
            del self._calls[job_id]
