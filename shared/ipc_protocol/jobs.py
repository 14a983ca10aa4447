# SPDX-License-Identifier: Apache-2.0
"""Jobs: what becomes of each operation that changes the VM, and how to stop one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from ipc_protocol.errors import VmError

__all__ = ["JobCancel", "JobInfo", "JobState"]


class JobState(StrEnum):
    """Where a job is; the last three are its end."""

    QUEUED = "Queued"
    """Operations before it are not finished yet."""
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class JobInfo(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One job, as ``vmm.jobs`` shows it."""

    id: str
    """What ``vmm.cancel`` takes."""
    operation: str
    """Its name, as in the HTTP path: an API process may know fewer than a worker."""
    state: JobState
    submitted: float
    """When it was asked for, in seconds since the epoch."""
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """How much of its present stage is done; ``None`` where that cannot be known."""
    stage: str = ""
    """What it is at, or was at last.

    A boot goes through ``devices``, ``memory``, ``payload``, ``vcpus`` and ``start``; an
    operation that is over in a moment has no stages.
    """
    request_id: str = ""
    """The ``X-Request-Id`` of the request that began it."""
    started: float | None = None
    """When its turn came, in seconds since the epoch."""
    ended: float | None = None
    """When it was over, in seconds since the epoch."""
    error: VmError | None = None
    """Why it failed, or that it was cancelled."""


class JobCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``vmm.cancel``."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """The job's, from ``vmm.jobs`` or the answer that began it."""
