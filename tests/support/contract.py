# SPDX-License-Identifier: Apache-2.0
"""Holds every answer of the server against its own OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jsonschema

from api_server.specification.document import build
from ipc_protocol.errors import ErrorCode
from tests.support.http import Response, UnixHTTP

__all__ = ["ContractHTTP", "check", "document", "pointer", "validator"]

BASE: Final = "/api/v1"


class ContractHTTP(UnixHTTP):
    """A connection on which every answer is checked."""

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        response = super().request(method, target, body, headers)
        check(method, target, response)
        return response


def check(method: str, target: str, response: Response) -> None:
    """Fail if the document does not have this answer to this request."""
    what = f"{method} {target[:80]}: {response.status} {response.body[:300]!r}"
    described = _answer(method, urlsplit(target).path, response.status)
    if described is None:
        code = response.json["code"] if response.body else ""
        assert (response.status, code) in {
            (404, ErrorCode.ROUTE_NOT_FOUND),
            (405, ErrorCode.METHOD_NOT_ALLOWED),
            (405, ""),
            (404, ""),
        }, f"{what} is in no document"
        return
    for name in described.get("headers", {}):
        if not document()["components"]["headers"][name].get("required"):
            continue
        assert name.lower() in response.headers, f"{what} has no {name}"
    if method == "HEAD":
        return
    content = described.get("content", {})
    if not content:
        assert not response.body, f"{what} has a body"
        return
    media_type = response.headers["content-type"].partition(";")[0]
    assert media_type in content, f"{what} is {media_type}, not one of {list(content)}"
    if media_type.endswith("json"):
        error = jsonschema.exceptions.best_match(
            validator(json.dumps(content[media_type]["schema"])).iter_errors(response.json)
        )
        assert error is None, f"{what} is not as documented: {error}"


@functools.cache
def document() -> dict[str, Any]:
    """Return the document as the sources make it."""
    return build()


def pointer(path: str) -> dict[str, Any]:
    """Return what the document has for the target of a request, by method."""
    paths: dict[str, Any] = document()["paths"]
    below = path.removeprefix(BASE) if path.startswith(f"{BASE}/") else path
    item: dict[str, Any] = paths.get(below, {})
    # What has servers of its own is at the root, all else is not.
    return item if ("servers" in item) == (below == path) else {}


@functools.cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """Return what checks values against a schema of the document, given as JSON."""
    root = {"components": document()["components"], **json.loads(schema)}
    return jsonschema.Draft202012Validator(root)


def _answer(method: str, path: str, status: int) -> dict[str, Any] | None:
    """Return what the document says of an answer."""
    method = "GET" if method == "HEAD" else method
    responses = pointer(path).get(method.lower(), {}).get("responses", {})
    described: dict[str, Any] | None = responses.get(str(status))
    if described is not None and "$ref" in described:
        described = document()["components"]["responses"][described["$ref"].rpartition("/")[2]]
    return described
