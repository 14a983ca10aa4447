# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a configuration says what the validation does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmInfo
from ipc_protocol.schema import NOT_SUPPORTED, components, config_schema, prose
from ipc_protocol.unsupported import UNSUPPORTED, Node, Unsupported
from ipc_protocol.validation import parse_config
from tests.unit.ipc_protocol.strategies import CONFIG, JSON

SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
KERNEL = {"payload": {"kernel": "/boot/vmlinuz"}}


def properties(schema: dict[str, Any], pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every field of every object, each with what the schema says of it."""
    for name, field in schema.get("properties", {}).items():
        below = f"{pointer}/{name}"
        yield below, field
        for inner in (field, field.get("items", {}), *field.get("anyOf", ())):
            if "$ref" in inner:
                yield from properties(SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]], below)
        yield from properties(field, below)


def leaves(nodes: Mapping[str, Node], pointer: str = "") -> Iterator[tuple[str, Unsupported]]:
    for name, node in nodes.items():
        if isinstance(node, Unsupported):
            yield f"{pointer}/{name}", node
        else:
            yield from leaves(node, f"{pointer}/{name}")


FIELDS = dict(properties(SCHEMA))


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert VALIDATOR.is_valid(KERNEL)
    assert not VALIDATOR.is_valid({})
    assert VALIDATOR.is_valid({"$schema": "vm-config.schema.json", **KERNEL}), "as editors need"


@given(CONFIG)
def test_what_is_a_configuration_is_one_by_the_schema(config: VmConfig) -> None:
    VALIDATOR.validate(msgspec.json.decode(msgspec.json.encode(config)))


@given(JSON)
def test_what_is_none_by_the_schema_is_refused(document: Any) -> None:
    if not VALIDATOR.is_valid(document):
        with pytest.raises(VmFailure):
            parse_config(document)


@pytest.mark.parametrize(
    "part",
    [
        {"cpus": {"boot_vcpus": 0, "max_vcpus": 1}},
        {"cpus": {"boot_vcpus": 1}},
        {"memory": {"size": (2 << 20) + 1}},
        {"serial": {"mode": "null"}},
        {"disks": [{"path": "/disk\0"}]},
        {"disks": [{"path": "/disk", "colour": "red"}]},
        {"colour": "red"},
    ],
)
def test_both_refuse_what_is_wrong_in_itself(part: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(KERNEL | part)
    with pytest.raises(VmFailure) as caught:
        parse_config(KERNEL | part)
    assert caught.value.error.code is ErrorCode.INVALID_CONFIG


def test_defaults_are_what_is_filled_in() -> None:
    filled = json.loads(msgspec.json.encode(parse_config(KERNEL)))
    for name, field in SCHEMA["properties"].items():
        if isinstance(field.get("default"), dict):
            assert field["default"].items() <= filled[name].items()
        elif "default" in field:
            assert filled[name] == field["default"]


@pytest.mark.parametrize(("pointer", "node"), list(leaves(UNSUPPORTED)), ids=str)
def test_an_editor_takes_of_what_is_not_built_only_what_asks_for_nothing(
    pointer: str, node: Unsupported
) -> None:
    field = FIELDS[pointer]
    assert field[NOT_SUPPORTED] == node.lacks
    for value in node.nothing:
        jsonschema.validate(value, field)
    for value in ("something", 77, 0.5, [{}], {"a": 1}):
        assert not jsonschema.Draft202012Validator(field).is_valid(value)


def test_nothing_else_is_marked() -> None:
    marked = {pointer for pointer, field in FIELDS.items() if NOT_SUPPORTED in field}
    assert marked == {pointer for pointer, _ in leaves(UNSUPPORTED)}


def test_a_client_s_types_have_what_is_not_built_whole() -> None:
    _, found = components([VmConfig], "#/$defs/{name}")
    devices = found["VmConfig"]["properties"]["devices"]
    assert devices["type"] == ["array", "null"]
    assert devices["items"] == {"$ref": "#/$defs/DeviceConfig"}
    assert "no VFIO" in devices["description"]
    assert "path" in found["DeviceConfig"]["properties"]
    profile = found["CpusConfig"]["properties"]["profile"]
    assert profile["type"] == ["string", "null"]


def test_fields_are_described_by_their_docstrings() -> None:
    assert FIELDS["/cpus/boot_vcpus"]["description"] == "vCPUs present at boot."
    assert "`vm.info`" in FIELDS["/disks/id"]["description"], "of a base class"
    assert "\n* `Unknown`: " in SCHEMA["$defs"]["ImageType"]["description"]
    assert prose("One\n    ``two``\n\n    three") == "One `two`\n\nthree"


def test_a_type_that_refers_to_others_brings_them_along() -> None:
    (root,), found = components([VmInfo], "#/components/schemas/{name}")
    assert root == {"$ref": "#/components/schemas/VmInfo"}
    assert {"VmInfo", "VmConfig", "DiskConfig", "VmState"} <= set(found)
    assert found["VmState"]["enum"][0] == "Created"
