# SPDX-License-Identifier: Apache-2.0
"""JSON Schema (2020-12) of the messages, from their types and the docstrings in them.

For documents and for editors: no process that serves requests loads it.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, Final, TypeAlias, cast

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.config_host import VmFile
from ipc_protocol.unsupported import UNSUPPORTED, Node, Unsupported
from ipc_protocol.validation import PARSERS

__all__ = ["NOT_SUPPORTED", "Schema", "components", "config_schema", "file_schema", "prose"]

Schema: TypeAlias = dict[str, Any]

NOT_SUPPORTED: Final = "x-not-supported"
"""What there would have to be for a field that is known and not built."""

_INT32: Final = range(-(1 << 31), 1 << 31)
_INNER: Final = ("item_type", "key_type", "value_type")
_NULL: Final = {"type": "null"}
_NO_NUL: Final = r"^[^\x00]*$"
_TYPES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
}


def config_schema() -> Schema:
    """Return the schema of a configuration file, whole in one document."""
    return _document(VmConfig, "The configuration of a Velum VM")


def file_schema() -> Schema:
    """Return the schema of a file that describes a VM of this host, whole in one document."""
    return _document(VmFile, "A VM of this host, in /etc/velum/vms")


def _document(kind: type[VmConfig], title: str) -> Schema:
    """Describe a kind of file.

    Of what is not built it takes only what a VM can be created with, as an editor should.
    """
    _, found = components([kind], "#/$defs/{name}", strict=True)
    root = found.pop(kind.__name__)
    link = {"type": "string", "description": "Where an editor finds this schema."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": title,
        "properties": {"$schema": link, **root["properties"]},
        "$defs": found,
    }


def components(
    types: Iterable[Any], ref_template: str, *, strict: bool = False
) -> tuple[list[Schema], dict[str, Schema]]:
    """Return a schema for each type, and those that they refer to by name.

    Args:
        types: Any types of ``ipc_protocol.messages`` and the like.
        ref_template: How a reference looks, with ``{name}`` in it.
        strict: Whether a field that is not built takes only what asks for nothing, or
            what it will take one day.
    """
    types = list(types)
    lacking = {} if strict else {id(each): each.kind for each in _leaves(UNSUPPORTED)}
    whole = next((each for each in (VmConfig, VmFile) if each in types), None)
    all_types = types if whole is None else [*types, *lacking.values()]
    roots, found = msgspec.json.schema_components(all_types, ref_template=ref_template)
    requests = {cls.__name__ for cls in _classes([*PARSERS, VmFile])}
    for cls in _classes(all_types):
        schema = found[cls.__name__]
        _describe(schema, cls)
        if issubclass(cls, Enum):
            # As they are written, which is an order; msgspec sorts.
            schema["enum"] = [each.value for each in cls]
            schema["type"] = "string"
        else:
            for name, field in schema["properties"].items():
                schema["properties"][name] = _field(field, request=cls.__name__ in requests)
            if not schema["required"]:
                del schema["required"]
    described = [_field(root, request=False) for root in roots]
    if whole is not None:
        kinds = dict(zip(lacking, described[len(types) :], strict=True))
        _add_unsupported(found, found[whole.__name__], UNSUPPORTED, kinds)
    return described[: len(types)], found


def prose(docstring: str) -> str:
    """Return a docstring as it is read outside of Python: one line a paragraph, in Markdown."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _classes(types: Iterable[Any]) -> Iterator[type]:
    """Find every struct and enum in some types, each once."""
    seen: set[type] = set()
    left = list(msgspec.inspect.multi_type_info(list(types)))
    while left:
        kind = left.pop()
        cls = getattr(kind, "cls", None)
        if cls is not None:
            if cls in seen:
                continue
            seen.add(cls)
            yield cls
        left += [field.type for field in getattr(kind, "fields", ())]
        left += [getattr(kind, name) for name in _INNER if hasattr(kind, name)]
        left += getattr(kind, "types", ())


def _describe(schema: Schema, cls: type) -> None:
    """Say what a type and each of its fields is, from the docstrings."""
    if cls.__doc__:
        schema["description"] = prose(cls.__doc__)
    documented = _attributes(cls)
    if issubclass(cls, Enum):
        values = {each.value: documented.get(each.name) for each in cls}
        lines = [f"* `{value}`: {text}" for value, text in values.items() if text]
        schema["description"] = "\n".join([schema.get("description", ""), *lines]).strip()
        return
    for field in msgspec.structs.fields(cast(type[msgspec.Struct], cls)):
        if text := documented.get(field.name):
            schema["properties"][field.encode_name]["description"] = text


def _attributes(cls: type) -> dict[str, str]:
    """Read the docstrings below the attributes of a class and of those it is made from."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.partition(".")[0] not in {"ipc_protocol", "api_server"}:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        body = cast(ast.ClassDef, definition).body
        for statement, following in pairwise(body):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name))
                    | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = prose(text)
    return found


def _field(schema: Schema, *, request: bool) -> Schema:
    """Return the schema of a value as it is on the wire, of which msgspec knows a part."""
    result = dict(schema)
    others = [each for each in result.pop("anyOf", ()) if each != _NULL]
    if len(others) == 1:
        result = {**others[0], **result}
    # As it is in JSON; absent is what null means.
    default = json.loads(json.dumps(result.pop("default", None)))
    if isinstance(default, dict):
        default = {name: value for name, value in default.items() if value is not None}
    if default is not None:
        result["default"] = default
    match result.get("type"):
        case "integer":
            bounded = result.get("maximum", _INT32.stop) in _INT32
            result["format"] = "int32" if bounded else "int64"
        case "string" if request and "enum" not in result:
            result["pattern"] = _NO_NUL
        case "array":
            result["items"] = _field(result["items"], request=request)
        case "object" if "additionalProperties" in result:
            inner = result["additionalProperties"]
            result["additionalProperties"] = _field(inner, request=request)
    # In a request an array may be null as well, as in the specification's server.
    if others or (request and result.get("type") == "array"):
        return _or_null(result)
    return result


def _or_null(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"anyOf": [{"$ref": schema.pop("$ref")}, _NULL], **schema}
    return {**schema, "type": [schema["type"], "null"]}


def _leaves(nodes: Mapping[str, Node]) -> Iterator[Unsupported]:
    for node in nodes.values():
        if isinstance(node, Unsupported):
            yield node
        else:
            yield from _leaves(node)


def _add_unsupported(
    found: Mapping[str, Schema],
    schema: Schema,
    nodes: Mapping[str, Node],
    kinds: Mapping[int, Schema],
) -> None:
    """Add the fields of the specification that are not built.

    Args:
        found: What references lead to.
        schema: Of the object that has the fields.
        nodes: The fields.
        kinds: What one day may be given, by the identity of a field's node.
    """
    for name, node in nodes.items():
        present = schema["properties"].get(name)
        if isinstance(node, Unsupported):
            schema["properties"][name] = _unsupported(node, kinds.get(id(node)))
            continue
        if present is None:
            inner: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
            schema["properties"][name] = _or_null(inner)
        else:
            inner = _resolve(found, present)
        _add_unsupported(found, inner, node, kinds)


def _resolve(found: Mapping[str, Schema], field: Schema) -> Schema:
    """Follow the one reference in a field: its own, its elements', or that of what is not null."""
    for inner in (field, field.get("items", {}), *field.get("anyOf", ())):
        if "$ref" in inner:
            return found[inner["$ref"].rpartition("/")[2]]
    raise ValueError(f"no reference in {field}")


def _unsupported(node: Unsupported, kind: Schema | None) -> Schema:
    """Describe a field that is not built, by its kind or by what asks for nothing."""
    allowed = " or ".join(f"`{json.dumps(each)}`" for each in node.nothing)
    about = {
        "description": f"Not supported yet, for there is no {node.lacks}: only {allowed} may be "
        "given.",
        NOT_SUPPORTED: node.lacks,
    }
    if kind is None:
        return {**_exactly(node.nothing), **about}
    return {**(_or_null(dict(kind)) if None in node.nothing else kind), **about}


def _exactly(values: tuple[object, ...]) -> Schema:
    kinds = sorted({_TYPES[type(each)] for each in values}, key="null".__eq__)
    schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if [] in values:
        return {**schema, "maxItems": 0}
    return {**schema, "enum": list(values)}
