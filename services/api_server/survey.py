# SPDX-License-Identifier: Apache-2.0
"""One question to every worker of the host at once, and one deadline for all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from api_server.peers import Peers
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import Operation

__all__ = ["survey"]

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
    workers = peers.everyone()
    if not workers:
        return {}
    with ThreadPoolExecutor(min(len(workers), _AT_ONCE), "survey") as threads:
        answers = threads.map(partial(_ask, peers, operation, timeout), workers.values())
        return dict(zip(workers, answers, strict=True))


def _ask(peers: Peers, operation: Operation, timeout: float, path: Path) -> Any:
    try:
        return peers.call(path, operation, None, timeout=timeout)
    except VmFailure as ex:
        return ex
