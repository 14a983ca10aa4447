# SPDX-License-Identifier: Apache-2.0
"""Progress: what those who ask see, and where an operation ends that was cancelled."""

from __future__ import annotations

import pytest

from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.progress import Point, Progress


def test_a_stage_begins_with_nothing_known_of_it() -> None:
    progress = Progress()
    assert progress.point == Point("", None)
    progress.enter("first")
    progress.advance(0.5)
    assert progress.point == Point("first", 0.5)
    progress.enter("second")
    assert progress.point == Point("second", None)


def test_an_operation_that_was_cancelled_ends_at_its_next_point_and_stays_there() -> None:
    progress = Progress()
    progress.enter("first")
    failure = VmFailure(ErrorCode.OPERATION_CANCELLED, "cancelled")
    progress.cancel(failure)
    for tell in (lambda: progress.enter("second"), lambda: progress.advance(1.0)):
        with pytest.raises(VmFailure) as caught:
            tell()
        assert caught.value is failure
    assert progress.point == Point("first", None)
