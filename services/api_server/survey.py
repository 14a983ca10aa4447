# SPDX-License-Identifier: Apache-2.0
"""One question to every worker of the host at once, and one deadline for all of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from api_server.peers import Peers
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import Operation

__all__ = ["each_worker", "survey"]

_T = TypeVar("_T")

_AT_ONCE: Final = 64
"""A worker that hangs holds one of these until the deadline, and no other worker."""


def survey(peers: Peers, operation: Operation, *, timeout: float) -> dict[str, Any]:
    """Ask every worker that there is, each for itself.

    Args:
        peers: The workers.
        operation: A read without a body.
        timeout: Seconds that each has.

    Returns:
        By name of the VM, in order: its answer, or the ``VmFailure`` it gave or is.
    """
    return each_worker(peers, partial(_ask, peers, operation, timeout))


def each_worker(peers: Peers, ask: Callable[[Path], _T]) -> dict[str, _T]:
    """Do something about every worker that there is, for all at once.

    Args:
        peers: The workers.
        ask: What to do, given the path of a worker's socket.

    Returns:
        By name of the VM, in order: what came of it.
    """
    workers = peers.everyone()
    if not workers:
        return {}
    with ThreadPoolExecutor(min(len(workers), _AT_ONCE), "survey") as threads:
        return dict(zip(workers, threads.map(ask, workers.values()), strict=True))


def _ask(peers: Peers, operation: Operation, timeout: float, path: Path) -> Any:
    try:
        return peers.call(path, operation, None, timeout=timeout)
    except VmFailure as ex:
        return ex
