# SPDX-License-Identifier: Apache-2.0
"""Which worker a request is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from api_server.hosts import authority
from ipc_protocol.names import vm_of

if TYPE_CHECKING:
    from api_server.request import Request
    from api_server.services import Services

__all__ = ["worker_of"]


def worker_of(req: Request, services: Services) -> Path:
    """Return the socket of the worker whose VM a request is for: its host names it.

    Raises:
        VmFailure: ``vm_unknown``.
    """
    host = authority(req.env["RAW_URI"], req.get_header("Host"))
    path = services.peers.locate(host, req.env["gunicorn.socket"].getsockname())
    req.context.vm = vm_of(path)
    return path
