# SPDX-License-Identifier: Apache-2.0
"""Which worker a request is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from api_server.hosts import authority

if TYPE_CHECKING:
    from api_server.request import Request
    from api_server.services import Services

__all__ = ["worker_of"]


def worker_of(req: Request, services: Services) -> Path:
    """Return the socket of the worker whose VM the host of a request names.

    Raises:
        VmFailure: ``vm_unknown``.
    """
    path = services.peers.locate(authority(req.env["RAW_URI"], req.get_header("Host")))
    req.context.vm = path.stem
    return path
