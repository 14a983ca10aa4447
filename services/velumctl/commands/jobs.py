# SPDX-License-Identifier: Apache-2.0
"""``jobs`` and ``cancel``: long work that is under way."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from ipc_protocol.jobs import JobInfo, JobState
from velumctl.cli import Target, command, pass_target
from velumctl.display import as_json, json_option, table
from velumctl.failures import Failure

__all__ = ["COMMANDS"]


@command("jobs")
@json_option
@pass_target
def jobs(target: Target, *, as_document: bool) -> None:
    """Show what the VM's worker does and has done, the newest last."""
    with target.api() as api:
        document = api.get("vmm.jobs", Any if as_document else list[JobInfo])
    if as_document:
        as_json(document)
        return
    header = ("ID", "OPERATION", "STATE", "PROGRESS", "STAGE", "SECONDS", "ERROR")
    table(header, map(_row, document), right=(3, 5))


def _row(job: JobInfo) -> tuple[str, ...]:
    progress = "" if job.progress is None else f"{job.progress:.0%}"
    seconds = ""
    if job.started is not None:
        seconds = f"{(job.ended or time.time()) - job.started:.1f}"
    error = job.error.message if job.error else ""
    return job.id, job.operation, job.state, progress, job.stage, seconds, error


def _complete_job(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the jobs that are not over."""
    try:
        with ctx.ensure_object(Target).api() as api:
            found = api.get("vmm.jobs", list[JobInfo])
    except Failure:
        return []
    active = [job.id for job in found if job.state in (JobState.QUEUED, JobState.RUNNING)]
    return [job for job in active if job.startswith(incomplete)]


@command("cancel")
@click.argument("job", metavar="ID", shell_complete=_complete_job)
@pass_target
def cancel(target: Target, *, job: str) -> None:
    """Stop a job at the next place where that is possible."""
    with target.api() as api:
        api.put("vmm.cancel", {"id": job})


COMMANDS: Final = (jobs, cancel)
