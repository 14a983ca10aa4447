# SPDX-License-Identifier: Apache-2.0
"""From OpenAPI 3.1 to 3.0.3, whose schemas are a dialect of their own."""

from __future__ import annotations

from typing import Any, Final

from api_server.problem import Problem
from api_server.specification.document import REFERENCE
from ipc_protocol.schema import Schema

__all__ = ["downgrade"]

OPENAPI: Final = "3.0.3"

_PROBLEM: Final = {"$ref": REFERENCE.format(name=Problem.__name__)}


def downgrade(document: Schema) -> Schema:
    """Return what 3.0 can say of a document in 3.1; it refuses nothing that 3.1 takes."""
    info = {key: value for key, value in document["info"].items() if key != "summary"}
    info["license"] = {"name": info["license"]["name"]}
    lower: Schema = _walk(document)
    return {**lower, "openapi": OPENAPI, "info": info}


def _walk(value: Any) -> Any:
    if isinstance(value, list):
        return [_walk(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("allOf", [None])[0] == _PROBLEM:
        # Which codes come with which status: generators would make a type of each.
        return dict(_PROBLEM)
    return _schema({key: _member(key, each) for key, each in value.items()})


def _member(key: str, value: Any) -> Any:
    if key == "example":
        return value
    if key == "properties" and isinstance(value, dict):
        # Names of fields are no keywords; and what may only be null is best left out of what
        # a generator makes.
        return {name: _walk(each) for name, each in value.items() if each.get("type") != "null"}
    return _walk(value)


def _schema(schema: Schema) -> Schema:
    """Translate what one schema says of itself; anything else comes out as it is."""
    if isinstance(schema.get("default"), dict):
        # The default of an object is that of its fields; generators stumble over it.
        del schema["default"]
    if isinstance(schema.get("type"), list):
        (kind,) = (each for each in schema["type"] if each != "null")
        schema |= {"type": kind, "nullable": True}
    if {"type": "null"} in schema.get("anyOf", ()):
        (other,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
        schema |= {"allOf": [other], "nullable": True}
    elif "$ref" in schema and len(schema) > 1:
        # Beside a reference nothing is read in 3.0.
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("type") == "array":
        schema.setdefault("items", {})
    return schema
