# SPDX-License-Identifier: Apache-2.0
"""Operations that may take long: asked for as a job, followed with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import click

from ipc_protocol.jobs import JobInfo, JobState
from velumctl.api import Api
from velumctl.documents import Document
from velumctl.failures import ExitCode, Failure, Problem, Refusal
from velumctl.source import Source

__all__ = ["carry_out", "detach_option"]

_ASYNC: Final = {"Prefer": "respond-async"}
_PERIOD: Final = 0.1
_GRACE: Final = 30.0
"""Seconds that the API server may be away meanwhile."""
_AT_WORK: Final = (JobState.QUEUED, JobState.RUNNING)


def detach_option() -> click.Option:
    """Make the option for those who do not wait."""
    return click.Option(
        ["--detach"], is_flag=True, help="Print the job's id instead of waiting for its end."
    )


def carry_out(
    api: Api,
    name: str,
    body: Any = None,
    *,
    detach: bool = False,
    blamed: Source | None = None,
) -> None:
    """Carry out an operation to its end, showing how far it is on a terminal.

    Args:
        api: The connection.
        name: The operation.
        body: As for :meth:`Api.put`.
        detach: Print the job's id instead of waiting for its end.
        blamed: The text whose fields may turn out to be at fault; the body's own by default.

    Raises:
        Refusal: It failed.
        Failure: It was interrupted, or the server is not there.
    """
    try:
        answer = api.put(name, body, _ASYNC)
    except Refusal as ex:
        raise Refusal(ex.problem, ex.source or blamed) from ex
    if answer.status != HTTPStatus.ACCEPTED:
        return  # A server that knows no jobs has done it.
    job = answer.document(JobInfo)
    if detach:
        click.echo(job.id)
        return
    job = _follow(api, job)
    if job.error is not None:
        source = body.source if isinstance(body, Document) else blamed
        raise Refusal(Problem.of(job.error, request_id=job.request_id), source)


def _follow(api: Api, job: JobInfo) -> JobInfo:
    """Wait for the end of a job; Ctrl-C asks for its cancellation, twice leaves it alone."""
    try:
        return _watch(api, job)
    except KeyboardInterrupt:
        click.echo(f"cancelling {job.operation} (job {job.id})", err=True)
        # The interrupted request's answer may still be on its way on this connection.
        api.close()
        api.put("vmm.cancel", {"id": job.id})
        _watch(api, job)
        raise


def _watch(api: Api, job: JobInfo) -> JobInfo:
    if not sys.stderr.isatty():
        return _until_over(api, job, lambda _: None)
    from rich.console import Console  # noqa: PLC0415 - of no use without a terminal
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(job.operation, total=None)

        def show(now: JobInfo) -> None:
            bar.update(
                task,
                description=f"{now.operation} {now.stage or now.state.lower()}",
                total=None if now.progress is None else 1.0,
                completed=now.progress or 0.0,
            )

        return _until_over(api, job, show)


def _until_over(api: Api, job: JobInfo, show: Callable[[JobInfo], None]) -> JobInfo:
    seen = time.monotonic()
    while job.state in _AT_WORK:
        show(job)
        time.sleep(_PERIOD)
        try:
            job = _now(api, job)
            seen = time.monotonic()
        except Failure as ex:
            # The work goes on without the API server, which may be on its way back.
            if not ex.is_loss or time.monotonic() > seen + _GRACE:
                raise
    return job


def _now(api: Api, job: JobInfo) -> JobInfo:
    jobs: list[JobInfo] = api.get("vmm.jobs", list[JobInfo])
    found = next((each for each in jobs if each.id == job.id), None)
    if found is None:
        raise Failure(
            ExitCode.NOT_FOUND,
            f"the worker knows nothing of {job.operation} any more (job {job.id})",
            "it was started anew, or too many jobs came after this one",
        )
    return found
