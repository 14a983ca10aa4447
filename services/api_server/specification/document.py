# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document of everything that is routed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from api_server import problem, request_ids
from api_server.handlers import IGNORED_HEADER
from api_server.problem import Problem
from api_server.query import COMPAT
from api_server.routes import PREFIX, ROUTES, Missing, Route
from api_server.specification.endpoints import CHAPTERS, ENDPOINTS, Endpoint
from api_server.specification.failures import ELSEWHERE, failures
from api_server.specification.headers import (
    HEADERS,
    OF_JOBS,
    PARAMETERS,
    PREFERENCE_APPLIED,
    answered,
    asked,
)
from api_server.specification.links import NEXT
from api_server.specification.meanings import MEANINGS
from api_server.status import STATUS
from ipc_protocol.config_unbuilt import UserDeviceConfig
from ipc_protocol.errors import ErrorCode
from ipc_protocol.jobs import JobInfo
from ipc_protocol.messages import SIGNATURES, Operation, VmCounters, VmmPing
from ipc_protocol.schema import Schema, components
from ipc_protocol.version import VERSION

__all__ = ["OPENAPI", "REFERENCE", "build", "by_status", "endpoint_of"]

OPENAPI: Final = "3.1.0"
REFERENCE: Final = "#/components/schemas/{name}"

_NAMES: Final = {
    VmmPing.__name__: "VmmPingResponse",
    UserDeviceConfig.__name__: "VmAddUserDevice",
}
"""Where Cloud Hypervisor's document, and so a client made from it, has another name."""
_REFERENCES: Final = {
    REFERENCE.format(name=old): REFERENCE.format(name=new) for old, new in _NAMES.items()
}
_ALIASES: Final[dict[str, Any]] = {"VmCounters": VmCounters}
"""Types that have no name by themselves."""

_ABOUT: Final = """\
One API server serves the virtual machines of a host on a UNIX socket. The `Host` of a request
names the VM; `localhost` is the one that the server's command line says. Paths, methods and
bodies are those of Cloud Hypervisor's API, so its clients work unchanged.

Requests have no `Content-Type` or one of JSON; what takes no body takes none, or `{}`. Bodies
have at most 4 MiB. Whatever goes wrong is answered with a problem document (RFC 9457) whose
`code` is stable: switch on that, show `detail` to people.

What changes a VM is done one thing after the other; reads are answered meanwhile. With `Prefer:
respond-async` the answer is 202 with the job, at once; `vmm.jobs` tells what becomes of it, and
`vmm.cancel` ends it. With an `Idempotency-Key` a retry is safe.

Every answer has an `X-Request-Id`, the client's own if it sent one: the same id is in the logs.
Each operation says (here as `x-role`) the least that a client has to be: `viewer`, `operator` or
`admin`. A body that names something of the host, a path or a tap, takes `admin` everywhere."""


def build() -> Schema:
    """Make the document."""
    schemas, refs = _schemas()
    paths: Schema = {}
    for path, route in sorted(ROUTES.items(), key=_order):
        item = paths.setdefault(path.removeprefix(PREFIX.rstrip("/")), {})
        if not path.startswith(PREFIX):
            item["servers"] = [{"url": "http://localhost"}]
        item[route.method.lower()] = _operation(path, route, refs)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Velum",
            "version": VERSION,
            "summary": "Virtual machines on Linux KVM.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "http://{vm}" + PREFIX.rstrip("/"),
                "description": "On the server's UNIX socket, by default /run/velum/api.sock.",
                "variables": {"vm": {"default": "localhost", "description": "The VM's name."}},
            }
        ],
        "tags": [{"name": name, "description": text} for name, text in CHAPTERS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "responses": {name: _problem(codes) for name, codes in sorted(_problems().items())},
        },
    }


def endpoint_of(path: str) -> Endpoint:
    """Return the words about a route."""
    return ENDPOINTS[path.removeprefix(PREFIX)]


def by_status(codes: Iterable[ErrorCode]) -> dict[HTTPStatus, list[ErrorCode]]:
    """Sort codes by the status that they are answered with."""
    found: dict[HTTPStatus, list[ErrorCode]] = {}
    for code in sorted(codes, key=lambda each: (STATUS[each], list(ErrorCode).index(each))):
        found.setdefault(STATUS[code], []).append(code)
    return found


def _order(item: tuple[str, Route]) -> int:
    return list(ENDPOINTS).index(item[0].removeprefix(PREFIX))


def _schemas() -> tuple[dict[str, Schema], Mapping[Any, Schema]]:
    """Return the named schemas, and what refers to each type that is sent."""
    sent = {
        each: None
        for operation in (route.endpoint for route in ROUTES.values())
        if isinstance(operation, Operation)
        for each in (SIGNATURES[operation].request, SIGNATURES[operation].result)
        if each is not None
    } | {JobInfo: None}
    sent |= {
        each: None
        for endpoint in ENDPOINTS.values()
        for each in (endpoint.request, endpoint.result)
        if each is not None
    }
    roots, found = components([*sent, Problem], REFERENCE)
    refs = dict(zip(sent, roots, strict=False))
    for name, kind in _ALIASES.items():
        found[name] = refs[kind]
        refs[kind] = {"$ref": REFERENCE.format(name=name)}
    meanings = [f"* `{code}`: {MEANINGS[code]}" for code in ErrorCode]
    found[ErrorCode.__name__]["description"] = "\n".join(
        ["What went wrong, for programs.", *meanings]
    )
    for old, new in _NAMES.items():
        found[new] = found.pop(old) | {"title": new}
    return _renamed(found), {kind: _renamed(ref) for kind, ref in refs.items()}


def _renamed(value: Any) -> Any:
    """Have every reference lead to the name that a schema has here."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if isinstance(value, dict):
        return {key: _renamed(each) for key, each in value.items()}
    return _REFERENCES.get(value, value) if isinstance(value, str) else value


def _operation(path: str, route: Route, refs: Mapping[Any, Schema]) -> Schema:
    endpoint = endpoint_of(path)
    described: Schema = {
        "operationId": _operation_id(path),
        "summary": endpoint.summary,
        "description": endpoint.description or endpoint.summary,
        "tags": [endpoint.chapter],
        "x-role": str(route.role),
        "parameters": [
            *asked(request_ids.HEADER, *(OF_JOBS if _is_job(route) else ()), *endpoint.headers),
            *(
                {
                    "name": each.name,
                    "in": "query",
                    "description": each.description,
                    "schema": {
                        "type": "string",
                        "enum": list(each.choices),
                        "default": each.choices[0],
                    },
                }
                for each in route.query
            ),
        ],
    }
    if (body := _request_body(route, endpoint, refs)) is not None:
        described["requestBody"] = body
    described["responses"] = _responses(route, endpoint, refs)
    return described


def _operation_id(path: str) -> str:
    """Return Cloud Hypervisor's name, or the one that generators make where there is none."""
    if name := endpoint_of(path).operation_id:
        return name
    method = ROUTES[path].method
    first, *rest = re.split(r"[^a-z0-9]+", path.removeprefix(PREFIX))
    return first + "".join(each.capitalize() for each in (*rest, method))


def _request_body(route: Route, endpoint: Endpoint, refs: Mapping[Any, Schema]) -> Schema | None:
    kind = endpoint.request
    if isinstance(route.endpoint, Operation):
        kind = SIGNATURES[route.endpoint].request
    if kind is None:
        return None
    return {
        "required": not isinstance(route.endpoint, Missing),
        "content": {"application/json": {"schema": refs[kind], "example": endpoint.body}},
    }


def _responses(route: Route, endpoint: Endpoint, refs: Mapping[Any, Schema]) -> Schema:
    responses: Schema = {}
    if not isinstance(route.endpoint, Missing):
        responses[str(route.success.value)] = _success(route, endpoint, refs)
    if _is_job(route):
        responses[str(HTTPStatus.ACCEPTED.value)] = _accepted(route, refs)
    for status, codes in by_status(failures(route, endpoint.failures)).items():
        responses[str(status.value)] = {"$ref": f"#/components/responses/{_name(codes)}"}
    return responses


def _success(route: Route, endpoint: Endpoint, refs: Mapping[Any, Schema]) -> Schema:
    answer: Schema = {"description": "Done.", "headers": _of_success(route)}
    result = endpoint.result
    if isinstance(route.endpoint, Operation):
        result = SIGNATURES[route.endpoint].result
    if result is not None:
        answer["description"] = "What was asked for."
        content = {"schema": refs[result], "example": endpoint.answer}
        answer["content"] = dict.fromkeys(endpoint.media_types, content)
    if isinstance(route.endpoint, Operation) and (following := NEXT.get(route.endpoint)):
        answer["links"] = {
            operation.value: {"operationId": _operation_id(PREFIX + operation)}
            for operation in following
        }
    return answer


def _accepted(route: Route, refs: Mapping[Any, Schema]) -> Schema:
    (job,) = ENDPOINTS[Operation.VMM_JOBS].answer
    return {
        "description": "The job, because the request said `Prefer: respond-async`.",
        "headers": {**_of_success(route), **answered(PREFERENCE_APPLIED)},
        "content": {"application/json": {"schema": refs[JobInfo], "example": job}},
    }


def _of_success(route: Route) -> Schema:
    return answered(IGNORED_HEADER) if COMPAT in route.query else answered()


def _is_job(route: Route) -> bool:
    return isinstance(route.endpoint, Operation) and SIGNATURES[route.endpoint].is_job


def _problems() -> dict[str, list[ErrorCode]]:
    """Return every combination of codes that share a status somewhere, by its name."""
    sets = [failures(route, endpoint_of(path).failures) for path, route in ROUTES.items()]
    found = (codes for each in (*sets, ELSEWHERE) for codes in by_status(each).values())
    return {_name(codes): codes for codes in found}


def _name(codes: list[ErrorCode]) -> str:
    return ".".join(codes)


def _problem(codes: list[ErrorCode]) -> Schema:
    status = STATUS[codes[0]]
    unavailable = status is HTTPStatus.SERVICE_UNAVAILABLE
    headers = answered("Retry-After") if unavailable else answered()
    schema = {
        "allOf": [
            {"$ref": REFERENCE.format(name=Problem.__name__)},
            {
                "properties": {
                    "status": {"const": status.value},
                    "code": {"enum": [code.value for code in codes]},
                }
            },
        ]
    }
    return {
        "description": "\n".join(f"* `{code}`: {MEANINGS[code]}" for code in codes),
        "headers": headers,
        "content": {problem.CONTENT_TYPE: {"schema": schema}},
    }
