# SPDX-License-Identifier: Apache-2.0
"""``vmm.list``."""

from __future__ import annotations

import falcon

from api_server.responses import answer_json
from api_server.services import Services

__all__ = ["list_workers"]


def list_workers(_req: falcon.Request, resp: falcon.Response, services: Services) -> None:
    """Answer with every worker of the host."""
    answer_json(resp, services.roster.read())
