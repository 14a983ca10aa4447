# SPDX-License-Identifier: Apache-2.0
"""The fields of a configuration, from the schema that its types make."""

from collections.abc import Iterator

from api_server.specification.reference import default_of, meaning_of, type_of
from ipc_protocol.schema import NOT_SUPPORTED, Schema, file_schema
from scripts.package.manual.roff import bold, entry, paragraphs

__all__ = ["fields"]


def fields() -> Iterator[str]:
    """Describe every field that a VM's file may have, object by object."""
    schema = file_schema()
    yield from _object("The whole", schema)
    for name, inner in schema["$defs"].items():
        yield from _object(name, inner)


def _object(name: str, schema: Schema) -> Iterator[str]:
    yield f".SS {name}"
    text, _, values = schema.get("description", "").partition("\n* ")
    yield paragraphs(text)
    documented = dict(each.split(": ", 1) for each in values.split("\n* ") if ": " in each)
    for value in schema.get("enum", ()):
        yield from entry(bold(str(value)), documented.get(f"`{value}`", ""))
    needed = schema.get("required", ())
    for field, inner in schema.get("properties", {}).items():
        if _is_built(inner):
            default = default_of(inner, needed=field in needed)
            if isinstance(inner.get("default"), dict):
                default = ""  # said of each of its fields
            elif default.startswith("`"):
                default = f"default {default}"
            about = ", ".join(filter(None, (type_of(inner), default)))
            yield from entry(bold(field), about, meaning_of(inner))


def _is_built(schema: Schema) -> bool:
    """Tell whether a field can be given anything that asks for something."""
    if NOT_SUPPORTED in schema:
        return False
    properties = schema.get("properties")
    return properties is None or any(map(_is_built, properties.values()))
