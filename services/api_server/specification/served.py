# SPDX-License-Identifier: Apache-2.0
"""The documents as this server gives them away."""

from __future__ import annotations

from pathlib import Path

import falcon

from api_server.services import Services

__all__ = ["FOLDER", "answer_openapi", "answer_openapi_3_0"]

FOLDER = Path(__file__).parent

# Read at the start: they are of this release, also when the next is installed meanwhile.
_OPENAPI = (FOLDER / "openapi.json").read_bytes()
_OPENAPI_3_0 = (FOLDER / "openapi-3.0.json").read_bytes()


def answer_openapi(_req: falcon.Request, resp: falcon.Response, _services: Services) -> None:
    """Answer with the document in OpenAPI 3.1."""
    _answer(resp, _OPENAPI)


def answer_openapi_3_0(_req: falcon.Request, resp: falcon.Response, _services: Services) -> None:
    """Answer with what generators need that do not know 3.1 yet."""
    _answer(resp, _OPENAPI_3_0)


def _answer(resp: falcon.Response, document: bytes) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = document
