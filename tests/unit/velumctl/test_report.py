# SPDX-License-Identifier: Apache-2.0
"""How failures are told."""

from __future__ import annotations

import pytest

from api_server.status import STATUS
from ipc_protocol.errors import ErrorCode, FieldError, VmError
from velumctl.documents import Format, parse
from velumctl.failures import OF_JOBS, ExitCode, Failure, Problem, Refusal
from velumctl.report import tell

CONFIG = """\
cpus:
\tboot_vcpus: 0
""".replace("\t", "  ")


def test_fields_are_underlined_where_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(
        detail="the configuration is not valid",
        causes=("a cause",),
        errors=(
            FieldError("/cpus/boot_vcpus", "must be 1"),
            FieldError("/cpus/max_vcpus", "is required"),
            FieldError("/payload", "is required"),
        ),
        reference="ab12",
        request_id="r-1",
    )
    source = parse("web.yaml", CONFIG, Format.YAML).source
    tell(Refusal(problem, source))
    assert capsys.readouterr().err.splitlines() == [
        "velumctl: the configuration is not valid",
        "  because: a cause",
        # What is missing is shown where it would belong.
        "  --> web.yaml:1:1: /cpus/max_vcpus",
        "   |",
        " 1 | cpus:",
        "   | ^^^^ is required",
        "  --> web.yaml:2:3: /cpus/boot_vcpus",
        "   |",
        " 2 |   boot_vcpus: 0",
        "   |   ^^^^^^^^^^^^^ must be 1",
        "  /payload: is required",
        "  the worker's log says more: look for ab12",
        "  request id: r-1",
    ]


def test_a_tab_is_as_wide_below_a_line_as_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    source = parse("a.json", '{\n\t"a":\t1}', Format.JSON).source
    tell(Refusal(Problem(detail="no", errors=(FieldError("/a", "is wrong"),)), source))
    assert "   | \t^^^^^^ is wrong" in capsys.readouterr().err.splitlines()


def test_without_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Refusal(Problem(detail="no", errors=(FieldError("", "is wrong"),))))
    tell(Failure(ExitCode.FAILED, "it went wrong", "do this"))
    assert capsys.readouterr().err == (
        "velumctl: no\n  /: is wrong\nvelumctl: it went wrong\n  do this\n"
    )


def test_nothing_in_an_answer_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    error = FieldError("/\x1b[2J", "\x1b]0;title\x07")
    tell(Refusal(Problem(detail="a\x1b[31mb", causes=("\r",), errors=(error,), request_id="\x00")))
    assert not set(capsys.readouterr().err) & set("\x1b\x07\r\x00")


@pytest.mark.parametrize("code", sorted(OF_JOBS.keys() & set(ErrorCode)))
def test_a_job_and_an_answer_end_a_command_alike(code: ErrorCode) -> None:
    """Whether a failure comes with its status or as the end of a job, scripts see the same."""
    of_answer = Problem(detail="", code=code, status=STATUS[code])
    of_job = Problem.of(VmError(code=code, message=""), "")
    assert of_answer.exit_code is of_job.exit_code
