# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document as a page for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

from api_server.routes import PREFIX, ROUTES, Missing, Route
from api_server.specification.document import by_status, endpoint_of
from api_server.specification.endpoints import CHAPTERS, ENDPOINTS, Endpoint
from api_server.specification.failures import ANYWHERE, ELSEWHERE, OF_CHANGES, ON_THE_WAY, failures
from api_server.specification.headers import PARAMETERS
from api_server.specification.meanings import MEANINGS
from api_server.status import STATUS
from ipc_protocol.errors import ErrorCode
from ipc_protocol.schema import Schema

__all__ = ["SOCKET", "default_of", "meaning_of", "render", "type_of"]

SOCKET: Final = "/run/velum/api.sock"

_WIDTH: Final = 100
_COMMON: Final = ANYWHERE | ON_THE_WAY | OF_CHANGES | ELSEWHERE

_SOURCES: Final = """\
The same is served as OpenAPI at `/api/v1/openapi.json` (3.1) and `/api/v1/openapi-3.0.json`, and \
stands in [openapi.json](../services/api_server/specification/openapi.json); editors complete \
configurations from [vm-config.schema.json](vm-config.schema.json). More is told of \
[access](access.md), [events](events.md) and [metrics](monitoring.md). Each `curl` line is run by \
a test."""


def render(document: Schema) -> str:
    """Write the page."""
    parts = [
        "<!-- Made by `python -m api_server.specification`: change what it is made from. -->",
        "# The API",
        *document["info"]["description"].split("\n\n"),
        _SOURCES,
        "## Endpoints",
        _overview(),
        *_chapters(),
        "## Headers",
        "Any request may have the first; the others are for what changes a VM, and for events.",
        "\n".join(f"* `{name}`: {each['description']}" for name, each in PARAMETERS.items()),
        "## Errors",
        "Any endpoint may answer with these, and with what stands with it.",
        _errors(_COMMON),
        "## Objects",
        "What is not required and has no default is unset.",
        *_objects(document["components"]["schemas"]),
    ]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _wrapped(part: str) -> str:
    """Break the lines of a paragraph; what has a form keeps it."""
    if part.startswith(("#", "|", "<", "*", "```")):
        return part
    return textwrap.fill(part, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _routes() -> Iterator[tuple[str, Route, Endpoint]]:
    """Return all routes as a reader meets them: chapter by chapter."""
    order = list(ENDPOINTS)
    chapters = list(CHAPTERS)
    for path, route in sorted(
        ROUTES.items(),
        key=lambda item: (
            chapters.index(endpoint_of(item[0]).chapter),
            order.index(item[0].removeprefix(PREFIX)),
        ),
    ):
        yield path, route, endpoint_of(path)


def _overview() -> str:
    rows = (
        (_link(path), route.method, str(route.role), endpoint.summary)
        for path, route, endpoint in _routes()
    )
    return _table(("path", "method", "role", "what it does"), rows)


def _link(path: str) -> str:
    anchor = "".join(each for each in path.lower() if each.isalnum() or each in "-_")
    return f"[`{path}`](#{anchor})"


def _chapters() -> Iterator[str]:
    for chapter, text in CHAPTERS.items():
        yield f"## {chapter}"
        yield text
        for path, route, endpoint in _routes():
            if endpoint.chapter == chapter:
                yield from _section(path, route, endpoint)


def _section(path: str, route: Route, endpoint: Endpoint) -> Iterator[str]:
    yield f"### {path}"
    yield endpoint.summary
    if endpoint.description:
        yield endpoint.description
    if route.query:
        yield "\n".join(
            f"* `?{each.name}=` {' or '.join(f'`{choice}`' for choice in each.choices)}: "
            f"{each.description}"
            for each in route.query
        )
    if endpoint.headers:
        yield "\n".join(
            f"* `{name}`: {PARAMETERS[name]['description']}" for name in endpoint.headers
        )
    if endpoint.state is not None:
        yield f"With a VM that is `{endpoint.state}`:"
    yield f"```sh\n{_curl(path, route, endpoint)}\n```"
    yield f"Answer: {_outcome(route, endpoint)}" + ("." if endpoint.answer is None else ":")
    if endpoint.answer is not None:
        yield _answer(endpoint)
    own = failures(route, endpoint.failures) - _COMMON
    if own and not isinstance(route.endpoint, Missing):
        yield _errors(own)


def _outcome(route: Route, endpoint: Endpoint) -> str:
    """Say what the example is answered with."""
    code = ErrorCode.NOT_SUPPORTED if isinstance(route.endpoint, Missing) else endpoint.refusal
    if code is None:
        return f"{route.success.value} {route.success.phrase}"
    return f"{STATUS[code].value} {STATUS[code].phrase}, `{code}`"


def _curl(path: str, route: Route, endpoint: Endpoint) -> str:
    method = "" if route.method == "GET" else f"-X {route.method} "
    method += "--no-buffer " if endpoint.endless else ""
    command = f"curl --unix-socket {SOCKET} {method}http://localhost{path}"
    if endpoint.body is None:
        return command
    return f"{command} \\\n     -d '{_json(endpoint.body, 9)}'"


def _json(value: Any, indent: int = 1) -> str:
    """Write a value on one line, or what is in it on one each if that is long."""
    line = json.dumps(value)
    if len(line) + indent < _WIDTH or not isinstance(value, dict | list):
        return line
    between = ",\n" + " " * indent
    if isinstance(value, list):
        return f"[{between.join(_json(each, indent + 1) for each in value)}]"
    members = (
        f"{json.dumps(name)}: {_json(each, indent + len(name) + 5)}" for name, each in value.items()
    )
    return f"{{{between.join(members)}}}"


def _answer(endpoint: Endpoint) -> str:
    if isinstance(endpoint.answer, str):
        return f"```text\n{endpoint.answer}\n```"
    return f"```json\n{_json(endpoint.answer)}\n```"


def _errors(codes: Iterable[ErrorCode]) -> str:
    rows = (
        (str(status.value), f"`{code}`", MEANINGS[code])
        for status, sharing in by_status(codes).items()
        for code in sharing
    )
    return _table(("status", "code", "when"), rows)


def _objects(schemas: dict[str, Schema]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f"### {name}"
        text, _, values = schema.get("description", "").partition("\n* ")
        yield from filter(None, text.split("\n\n"))
        if values:
            yield f"* {values}"
        if "enum" in schema:
            yield "One of " + ", ".join(f"`{each}`" for each in schema["enum"]) + "."
        if properties := schema.get("properties"):
            needed = schema.get("required", ())
            rows = (
                (
                    f"`{field}`",
                    type_of(each),
                    default_of(each, needed=field in needed),
                    meaning_of(each),
                )
                for field, each in properties.items()
            )
            yield _table(("field", "type", "default", "meaning"), rows)
        elif "enum" not in schema:
            yield f"Type: {type_of(schema)}."


def type_of(schema: Schema) -> str:
    """Say in a few words what a value may be."""
    for inner in (schema, *schema.get("anyOf", ())):
        if "$ref" in inner:
            name = inner["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
    kinds = schema.get("type", "any")
    kind = kinds if isinstance(kinds, str) else next(each for each in kinds if each != "null")
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    if kind == "array":
        return f"array of {type_of(schema['items'])}" if "items" in schema else "`[]` or `null`"
    if kind == "object" and "additionalProperties" in schema and "properties" not in schema:
        return f"object of {type_of(schema['additionalProperties'])}"
    return kind + _limits(schema)


def _limits(schema: Schema) -> str:
    least = schema.get("minimum", schema.get("minLength"))
    most = schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema or "minLength" in schema else ""
    text = ""
    if least is not None or most is not None:
        span = f"up to {most}" if not least else f"{least}..{most}"
        text = f", {span if most is not None else f'at least {least}'}{unit}"
    if "multipleOf" in schema:
        text += f", a multiple of {schema['multipleOf']}"
    return text


def default_of(schema: Schema, *, needed: bool) -> str:
    """Say what a field is when it is not given."""
    if needed:
        return "required"
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def meaning_of(schema: Schema) -> str:
    """Return what a field is for, in one line."""
    return " ".join(schema.get("description", "").split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
