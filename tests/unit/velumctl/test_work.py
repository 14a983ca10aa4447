# SPDX-License-Identifier: Apache-2.0
"""Long work: followed to its end, left alone, or cancelled."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.support.processes import DEADLINE
from tests.support.scripted_api import Reply, Request, ScriptedApi, problem
from tests.support.terminal import Terminal
from tests.support.velumctl import Velumctl
from tests.support.waiting import wait_until

JOB = {"id": "j-1", "operation": "vm.boot", "state": "Queued", "submitted": 1.0}
ENDED = {**JOB, "state": "Succeeded", "started": 2.0, "ended": 4.5, "progress": 1.0}


class Worker:
    """Answers as one that has a job to do."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.looks = [{**JOB, **look} for look in looks]
        """What each look at the jobs shows; the last one from then on."""

    def __call__(self, request: Request) -> Reply | None:
        match request.target.removeprefix("/api/v1/"):
            case "vm.boot":
                assert request.headers["prefer"] == "respond-async"
                return Reply(202, json.dumps(JOB).encode())
            case "vmm.jobs":
                look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
                return Reply(200, json.dumps([{**ENDED, "id": "j-0"}, look]).encode())
            case "vmm.cancel":
                error = {"code": "operation_cancelled", "message": "vm.boot was cancelled"}
                self.looks = [{**JOB, "state": "Cancelled", "error": error}]
        return Reply(204)


def targets(server: ScriptedApi) -> list[str]:
    return [each.target.removeprefix("/api/v1/") for each in server.received]


def test_a_job_is_followed_to_its_end(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker({"state": "Running", "progress": 0.5}, ENDED)
    assert velumctl("boot") == (0, "", "")
    assert targets(server) == ["vm.boot", "vmm.jobs", "vmm.jobs"]


def test_a_bar_on_a_terminal(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker({"state": "Running", "stage": "memory", "progress": 0.5}, ENDED)
    with (
        Terminal() as terminal,
        velumctl.start("boot", stderr=terminal.client, env={**os.environ, "TERM": "xterm"}) as boot,
    ):
        terminal.console.expect(b"vm.boot memory")
        assert boot.wait(DEADLINE) == 0


def test_a_restart_of_the_server_is_survived(server: ScriptedApi, velumctl: Velumctl) -> None:
    worker = Worker({"state": "Running"}, ENDED)
    losses = iter([None, None])

    def answer(request: Request) -> Reply | None:
        if request.target.endswith("vmm.jobs"):
            return next(losses, worker(request))
        return worker(request)

    server.answer = answer
    assert velumctl("boot") == (0, "", "")
    assert targets(server).count("vmm.jobs") > 2


def test_a_job_that_fails(server: ScriptedApi, velumctl: Velumctl) -> None:
    error = {
        "code": "vm_already_running",
        "message": "the VM runs already",
        "causes": ["it was booted"],
    }
    server.answer = Worker({"state": "Failed", "error": error, "request_id": "r-1"})
    outcome = velumctl("boot")
    assert outcome.code == 5
    assert outcome.err.splitlines() == [
        "velumctl: the VM runs already",
        "  because: it was booted",
        "  request id: r-1",
    ]


def test_a_boot_that_fails_shows_the_file(server: ScriptedApi, velumctl: Velumctl) -> None:
    fields = [{"pointer": "/payload/kernel", "message": "there is no such file"}]
    error = {"code": "file_unavailable", "message": "no kernel", "fields": fields}
    server.answer = Worker({"state": "Failed", "error": error})
    outcome = velumctl("create", "--kernel", "/none", "--boot")
    assert outcome.code == 1
    assert '    "kernel": "/none"' in outcome.err
    assert targets(server) == ["vm.create", "vm.boot", "vmm.jobs"]


def test_a_job_is_left_alone(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker(JOB)
    assert velumctl("boot", "--detach") == (0, "j-1\n", "")
    assert targets(server) == ["vm.boot"]


def test_a_job_that_nobody_knows_any_more(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker({"id": "j-9"})
    outcome = velumctl("boot")
    assert outcome.code == 4
    assert "knows nothing of vm.boot any more (job j-1)" in outcome.err


def test_ctrl_c_cancels(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker({"state": "Running"})
    with velumctl.start("boot") as process:
        wait_until(lambda: "vmm.jobs" in targets(server), timeout=DEADLINE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert err.strip() == b"cancelling vm.boot (job j-1)"
    assert ("vmm.cancel", {"id": "j-1"}) in [
        (each.target.removeprefix("/api/v1/"), each.body) for each in server.received
    ]


def test_jobs(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = Worker({"state": "Running", "progress": 0.25, "stage": "memory"})
    lines = [line.split() for line in velumctl("jobs").out.splitlines()]
    assert lines == [
        ["ID", "OPERATION", "STATE", "PROGRESS", "STAGE", "SECONDS", "ERROR"],
        ["j-0", "vm.boot", "Succeeded", "100%", "2.5"],
        ["j-1", "vm.boot", "Running", "25%", "memory"],
    ]


@pytest.mark.parametrize("code", ["job_unknown", "job_finished"])
def test_cancelling_what_is_no_job(code: str, server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: problem(404, code, "there is no such job")
    assert velumctl("cancel", "j-7").code == 4
