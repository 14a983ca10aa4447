# SPDX-License-Identifier: Apache-2.0
"""A soak from its first count to its last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from tests.integration.soak.counts import ApiCounts, WorkerCounts
from tests.integration.soak.host import Host
from tests.integration.soak.vms import Vms

__all__ = ["Outcome", "soak"]

_WARM_UP: Final = 0.15
"""The share of the time after which nothing may grow any more."""
_LIST_EVERY: Final = 0.5
_TELL_EVERY: Final = 60.0


@dataclass
class Outcome:
    """What came of a soak."""

    seconds: float
    done: dict[str, int]
    before: dict[str, float]
    after: dict[str, float]
    leaks: list[str] = field(default_factory=list)
    """In words; none if all is well."""

    @property
    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return vars(self)


def soak(
    host: Host,
    vms: Vms,
    seconds: float,
    *,
    actors: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Do things at random for that long.

    Args:
        host: Where the VMs run, each worker just started.
        vms: The VMs.
        seconds: How long.
        actors: How many do something at the same time.
        seed: What they do.
        tell: Takes a line about how far it is, now and then.

    Raises:
        AssertionError: The API gave a wrong answer.
    """
    for model in vms.models:
        vms.begin(model)
    warm_up = seconds * _WARM_UP
    _act(host, vms, warm_up, actors=actors, seed=seed, tell=tell)
    workers, api = _count(host, vms, actors)
    tell(f"before: {workers.summary() | api.summary()}")
    _act(host, vms, seconds - warm_up, actors=actors, seed=seed + actors, tell=tell)
    done = dict(vms.done)
    tell("counting")
    workers_after, api_after = _count(host, vms, actors)
    return Outcome(
        seconds,
        done,
        workers.summary() | api.summary(),
        workers_after.summary() | api_after.summary(),
        workers_after.leaks_since(workers) + api_after.leaks_since(api),
    )


def _count(host: Host, vms: Vms, actors: int) -> tuple[WorkerCounts, ApiCounts]:
    """Have every worker without a VM, and count; the workers while there is no API."""
    _rest(vms, actors)
    api = ApiCounts.of(host)
    host.stop_api()
    workers = WorkerCounts.of(host)
    host.start_api()
    return workers, api


def _rest(vms: Vms, actors: int) -> None:
    with ThreadPoolExecutor(actors) as pool:
        for _ in pool.map(vms.rest, vms.models):
            pass


def _progress(host: Host, vms: Vms, tell: Callable[[str], None]) -> None:
    tell(f"{sum(vms.done.values())} requests and kills; {ApiCounts.of(host).summary()}")


def _act(
    host: Host,
    vms: Vms,
    seconds: float,
    *,
    actors: int,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    """Have actors and an observer at work, until the time is over or one of them fails."""
    end = time.monotonic() + seconds
    over = threading.Event()

    def repeat(turn: Callable[[], object], pause: float) -> None:
        try:
            while time.monotonic() < end and not over.wait(pause):
                turn()
        except BaseException:
            over.set()
            raise

    with ThreadPoolExecutor(actors + 2) as pool:
        work = [
            pool.submit(repeat, partial(vms.turn, Random(seed + each)), 0.0)
            for each in range(actors)
        ]
        work.append(pool.submit(repeat, vms.compare_list, _LIST_EVERY))
        work.append(pool.submit(repeat, partial(_progress, host, vms, tell), _TELL_EVERY))
        for each in work[: actors + 1]:
            each.result()
        over.set()
