# SPDX-License-Identifier: Apache-2.0
"""Runs commands beside each other, and prints the output of each when it has ended."""

import os
import select
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Task", "run"]

GRACE = 30.0
"""Seconds for a command to end after SIGTERM, and a machine that it runs in."""


class Task(NamedTuple):
    """A command."""

    name: str
    command: Sequence[str | Path]
    log: Path
    """Where its output goes until it is printed."""


class _Running(NamedTuple):
    task: Task
    process: subprocess.Popen[bytes]
    lane: int


def run(queues: Sequence[Sequence[Task]], lanes: int) -> None:
    """Run all tasks.

    Each lane begins with a queue of its own. One whose queue is empty helps with the
    longest of the others, from its end.

    Args:
        queues: Of tasks, each in the order in which they are to be begun.
        lanes: How many tasks may run at a time.
    """
    waiting = [deque(queue) for queue in queues]
    running: list[_Running] = []
    idle = list(range(lanes))
    with ExitStack() as stack:
        while True:
            for lane in idle:
                if (task := _next(waiting, lane)) is not None:
                    print(f"--- {task.name} begins", flush=True)
                    running.append(_Running(task, stack.enter_context(_process(task)), lane))
            if not running:
                return
            done = _wait(running)
            running.remove(done)
            _print(done.task)
            idle = [done.lane]


@contextmanager
def _process(task: Task) -> Iterator[subprocess.Popen[bytes]]:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        task.log.open("wb") as log,
        subprocess.Popen(task.command, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                _end(process)
                _print(task)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _next(waiting: Sequence[deque[Task]], lane: int) -> Task | None:
    own = waiting[lane] if lane < len(waiting) else deque[Task]()
    if own:
        return own.popleft()
    longest = max(waiting, key=len)
    return longest.pop() if longest else None


def _wait(running: Sequence[_Running]) -> _Running:
    """Return one that has ended."""
    poller = select.poll()
    descriptors = {os.pidfd_open(each.process.pid): each for each in running}
    try:
        for descriptor in descriptors:
            poller.register(descriptor, select.POLLIN)
        done = descriptors[poller.poll()[0][0]]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    done.process.wait()
    return done


def _print(task: Task) -> None:
    with task.log.open("rb") as log:
        shutil.copyfileobj(log, sys.stdout.buffer)
    sys.stdout.flush()
