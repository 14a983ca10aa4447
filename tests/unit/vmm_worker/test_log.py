# SPDX-License-Identifier: Apache-2.0
"""The log's form, and its limit on what a guest can cause."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vmm_worker import log


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    logger = logging.Logger("of.this.test")  # noqa: LOG001 - none of the process's own
    logger.addHandler(logging.StreamHandler(stream))
    return logger, stream


def test_a_burst_passes_and_the_rest_is_counted(
    logger: tuple[logging.Logger, io.StringIO],
) -> None:
    out, stream = logger
    now = 1000.0
    out.addFilter(log.RateLimit(burst=3, period=60.0, clock=lambda: now))

    def speak() -> None:
        out.warning("reset %d", 1)

    for _ in range(10):
        speak()
    assert stream.getvalue().splitlines() == ["reset 1"] * 3
    now += 60.0
    speak()
    assert stream.getvalue().splitlines()[3:] == ["reset 1 (7 like this one were not logged)"]


def test_call_sites_do_not_count_for_each_other(
    logger: tuple[logging.Logger, io.StringIO],
) -> None:
    out, stream = logger
    out.addFilter(log.RateLimit(burst=1, period=3600.0))
    for _ in range(2):
        out.warning("one")
        out.warning("two")
    assert stream.getvalue().splitlines() == ["one", "two"]


def test_a_noisy_device_does_not_silence_another(
    logger: tuple[logging.Logger, io.StringIO],
) -> None:
    out, stream = logger
    out.addFilter(log.RateLimit(burst=1, period=3600.0))
    for device in ("noisy", "noisy", "calm"):
        out.warning("%s", device, extra={"device": device})
    assert stream.getvalue().splitlines() == ["noisy", "calm"]


def test_a_guest_logger_has_one_limit() -> None:
    first = log.guest_logger("some.module")
    assert log.guest_logger("some.module") is first
    assert sum(isinstance(one, log.RateLimit) for one in first.filters) == 1


SPEAK = """
import logging, os
from vmm_worker import log
status = os.fstat(2)
if {journal}:
    os.environ["JOURNAL_STREAM"] = f"{{status.st_dev}}:{{status.st_ino}}"
log.set_up("info")
logging.debug("not this")
logging.info("hello")
logging.error("two\\nlines")
"""


def spoken(*, journal: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK.format(journal=journal)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return done.stderr.splitlines()


def test_lines_for_the_journal_have_priorities() -> None:
    assert spoken(journal=True) == ["<6>hello", "<3>two", "<3>lines"]


def test_other_lines_have_the_time() -> None:
    lines = spoken(journal=False)
    assert [line.split(" ", 1)[1] for line in lines[:2]] == ["INFO hello", "ERROR two"]
