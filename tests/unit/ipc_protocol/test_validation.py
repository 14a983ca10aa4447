# SPDX-License-Identifier: Apache-2.0
"""Configurations: every valid one is taken, every fault of another is named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from ipc_protocol.config import (
    CoreScheduling,
    CpusConfig,
    MemoryConfig,
    PayloadConfig,
    VmConfig,
)
from ipc_protocol.config_devices import (
    ConsoleConfig,
    DiskConfig,
    NetConfig,
    PmemConfig,
    RngConfig,
    SerialConfig,
    VsockConfig,
)
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import VmRemoveDevice, VmResize
from ipc_protocol.unsupported import UNSUPPORTED, Node, Unsupported
from ipc_protocol.validation import MAX_ERRORS, PARSERS, parse_config
from tests.support.whole_config import ADDITIONS, whole_document
from tests.unit.ipc_protocol.strategies import CONFIG, JSON

KERNEL = {"kernel": "/boot/vmlinuz"}
NEEDED: dict[str, dict[str, Any]] = {
    "balloon": {"size": 1 << 20},
    "disks": {"path": "/disk"},
    "net": {},
    "pmem": {"file": "/pmem"},
    "rate_limit_groups": {},
    "vsock": {"cid": 3, "socket": "/vsock"},
}
"""The fields that a device cannot be without."""


def refusal(document: object) -> VmError:
    with pytest.raises(VmFailure) as caught:
        parse_config(document)
    return caught.value.error


def complaints(document: object) -> dict[str, str]:
    error = refusal(document)
    assert error.code is ErrorCode.INVALID_CONFIG
    assert error.fields
    return {each.pointer: each.message for each in error.fields}


def with_fields(pointer: str, value: object) -> dict[str, Any]:
    """Put one value into an otherwise valid document."""
    document: dict[str, Any] = {
        "payload": dict(KERNEL),
        "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
        "memory": {"size": 1 << 29},
    }
    *parents, name = pointer.split("/")[1:]
    place = document
    for parent in parents:
        if parent == "0":
            continue
        below = place.setdefault(parent, copy.deepcopy(NEEDED.get(parent, {})))
        if "0" in parents and place is document:
            place[parent] = [below]
        place = below
    place[name] = value
    return document


@given(CONFIG)
def test_every_valid_configuration_is_taken(config: VmConfig) -> None:
    assert parse_config(msgspec.to_builtins(config)) == config


@given(JSON)
def test_any_other_document_is_refused_with_its_fields(document: object) -> None:
    error = refusal(document)
    assert error.code is ErrorCode.INVALID_CONFIG
    assert error.fields


@given(CONFIG, st.data())
def test_one_wrong_value_is_found_where_it_is(config: VmConfig, data: st.DataObject) -> None:
    document = msgspec.to_builtins(config)
    sections = [name for name, each in document.items() if isinstance(each, dict)]
    section = data.draw(st.sampled_from(sorted(sections)))
    field = data.draw(st.sampled_from(sorted(document[section])))
    document[section][field] = data.draw(JSON.filter(lambda value: not isinstance(value, str)))
    try:
        parsed = parse_config(document)
    except VmFailure as ex:
        pointers = {each.pointer for each in ex.error.fields}
        assert any(pointer.startswith(f"/{section}") for pointer in pointers)
    else:
        assert parse_config(msgspec.to_builtins(parsed)) == parsed


def test_defaults_are_filled() -> None:
    config = parse_config({"payload": KERNEL})
    assert config == VmConfig(
        payload=PayloadConfig(kernel="/boot/vmlinuz"),
        cpus=CpusConfig(boot_vcpus=1, max_vcpus=1),
        memory=MemoryConfig(size=512 << 20),
        serial=SerialConfig(),
    )


def test_everything_wrong_is_told_at_once() -> None:
    document = {
        "payload": {"kernel": "", "cmdline": "a\0b", "initrd": "/boot/initrd"},
        "cpus": {
            "boot_vcpus": 9,
            "max_vcpus": 4,
            "max_phys_bits": "46",
            "topology": {"threads_per_core": 3, "cores_per_die": 0, "packages": 1.5},
        },
        "memory": {"mergeable": True, "thp": "yes"},
        "serial": {"mode": "File"},
        "disks": [
            {"path": "/disk", "serial": "x" * 21, "sparse": None},
            {"readonly": True, "queue_size": 2, "image_type": "Qcow2", "vhost_user": True},
            "/disk",
        ],
        "net": {"tap": "tap0"},
        "rng": {"id": "__x", "source": "/dev/random"},
        "balloon": {},
        "devices": [{"path": "/sys/bus/pci/devices/0000:00:01.0"}],
        "x/y~z": None,
    }
    found = complaints(document)
    assert set(found) == {
        "/payload/kernel",
        "/payload/cmdline",
        "/payload/initrd",
        "/cpus/max_vcpus",
        "/cpus/max_phys_bits",
        "/cpus/topology/threads_per_core",
        "/cpus/topology/cores_per_die",
        "/cpus/topology/dies_per_package",
        "/cpus/topology/packages",
        "/memory/size",
        "/memory/mergeable",
        "/memory/thp",
        "/serial/file",
        "/disks/0/serial",
        "/disks/0/sparse",
        "/disks/1/path",
        "/disks/1/queue_size",
        "/disks/1/image_type",
        "/disks/1/vhost_user",
        "/disks/2",
        "/net",
        "/rng/id",
        "/rng/source",
        "/balloon/size",
        "/devices",
        "/x~1y~0z",
    }
    assert "initramfs" in found["/payload/initrd"]


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        ("/cpus", None, "an object, not null"),
        ("/cpus", [], "an object, not an array"),
        ("/cpus/boot_vcpus", 0, "from 1 to 254, not 0"),
        ("/cpus/boot_vcpus", 255, "not 255"),
        ("/cpus/boot_vcpus", True, "whole number, from 1 to 254, not true"),
        ("/cpus/boot_vcpus", 1.0, "not 1.0"),
        ("/cpus/boot_vcpus", "1", "not '1'"),
        ("/cpus/boot_vcpus", {}, "not an object"),
        pytest.param("/cpus/max_vcpus", 10**5000, "a number beyond all bounds", id="huge"),
        ("/cpus/max_vcpus", float("nan"), "a number beyond all bounds"),
        ("/cpus/max_phys_bits", 31, "from 32 to 52"),
        ("/cpus/max_phys_bits", 53, "from 32 to 52"),
        ("/memory/size", (1 << 20) * 2 - 4096, "at least 2097152"),
        ("/memory/size", (1 << 29) + 1, "multiple of 4096"),
        ("/memory/size", 1 << 46, "max_phys_bits"),
        ("/memory/mergeable", True, "must be false"),
        ("/memory/shared", 0, "true or false, not 0"),
        ("/payload/kernel", None, "is required"),
        ("/payload/kernel", "", "must not be empty"),
        ("/payload/kernel", "a" * 4096, "at most 4095"),
        ("/payload/kernel", b"/boot/vmlinuz", "must be a string, not a value"),
        ("/payload/initramfs", "a\0", "NUL"),
        ("/payload/cmdline", "a" * 65537, "at most 65536"),
        ("/serial/mode", "tty", "one of Off, Pty, Tty, File, Socket, Null"),
        ("/serial/mode", None, "one of"),
        ("/serial", "Tty", "an object"),
        ("/disks", {}, "must be an array, not an object"),
        ("/disks", [{"path": "/d"}] * 32, "at most 31 elements, not 32"),
        ("/disks/0/path", None, "must be a string, not null"),
        ("/disks/0/num_queues", 0, "from 1 to 254"),
        ("/disks/0/queue_size", 2048, "from 4 to 1024, not 2048"),
        ("/disks/0/serial", "s" * 21, "at most 20"),
        ("/disks/0/image_type", "qcow2", "one of FixedVhd, Qcow2, Raw"),
        ("/disks/0/lock_granularity", None, "one of ByteRange, Full"),
        ("/disks/0/pci_device_id", 0, "from 1 to 31, not 0"),
        ("/disks/0/pci_device_id", 32, "from 1 to 31, not 32"),
        ("/disks/0/id", "i" * 32, "at most 31"),
        ("/disks/0/id", "", "must not be empty"),
        ("/disks/0/rate_limiter_config/ops/size", 0, "from 1 to"),
        ("/disks/0/rate_limiter_config/ops/refill_time", 0, "from 1 to 86400000"),
        ("/net/0/num_queues", 1, "from 2 to 256"),
        ("/net/0/mtu", 1279, "from 1280 to 65535, not 1279"),
        ("/net/0/tap", "a" * 16, "at most 15"),
        ("/balloon/size", 4095, "multiple of 4096"),
        ("/pmem/0/size", 1 << 20, "multiple of 2097152"),
        ("/pmem/0/size", 1 << 63, "at most 63 bits"),
        ("/vsock/cid", 2, "from 3 to 4294967294"),
        ("/vsock/cid", 0xFFFFFFFF, "from 3 to 4294967294"),
        ("/rng", None, "must be an object, not null"),
        ("/console/mode", "tty", "one of Off, Pty, Tty"),
        ("/pvpanic", 1, "must be true or false"),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(
    pointer: str, value: object, says: str
) -> None:
    found = complaints(with_fields(pointer, value))
    assert says in found[pointer]


@pytest.mark.parametrize("document", [{}, {"payload": {}}, {"payload": {"kernel": None}}])
def test_without_a_kernel_the_answer_says_what_to_give(document: object) -> None:
    assert "bzImage" in complaints(document)["/payload/kernel"]


@pytest.mark.parametrize("document", [None, 5, "{}", [], [{}]])
def test_a_document_is_an_object(document: object) -> None:
    assert set(complaints(document)) == {""}


ARRAYS = {"disks", "net", "pmem"}


def unsupported_fields(
    node: Node = UNSUPPORTED, pointer: str = ""
) -> Iterator[tuple[str, Unsupported]]:
    if isinstance(node, Unsupported):
        yield pointer, node
        return
    for name, below in node.items():
        element = "/0" if not pointer and name in ARRAYS else ""
        yield from unsupported_fields(below, f"{pointer}/{name}{element}")


@pytest.mark.parametrize(("pointer", "field"), list(unsupported_fields()))
def test_what_is_not_built_is_refused_by_name(pointer: str, field: Unsupported) -> None:
    error = refusal(with_fields(pointer, {"anything": 1}))
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert [each.pointer for each in error.fields] == [pointer]
    assert pointer in error.message
    assert field.lacks in error.message
    for value in field.nothing:
        assert parse_config(with_fields(pointer, copy.deepcopy(value)))


@pytest.mark.parametrize(("pointer", "field"), list(unsupported_fields()))
def test_what_asks_for_nothing_is_of_the_field_s_own_type(pointer: str, field: Unsupported) -> None:
    for value in field.nothing:
        assert value is None or msgspec.convert(value, field.kind) is not None, pointer
    assert msgspec.json.schema(field.kind)


def pointers(value: object, pointer: str = "") -> Iterator[str]:
    """Find every field of a document; an element of an array has its array's pointer."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{pointer}/{name}"
            yield from pointers(below, f"{pointer}/{name}")
    elif isinstance(value, list):
        for each in value:
            yield from pointers(each, pointer)


def known(kind: inspect.Type | None, node: Node, pointer: str = "") -> Iterator[str]:
    """Find every field that the validation knows, supported or not."""
    yield pointer
    others = {} if isinstance(node, Unsupported) else dict(node)
    for inner in (kind, *getattr(kind, "types", ()), getattr(kind, "item_type", None)):
        for field in getattr(inner, "fields", ()):
            below = others.pop(field.encode_name, {})
            yield from known(field.type, below, f"{pointer}/{field.encode_name}")
    for name, below in others.items():
        yield from known(None, below, f"{pointer}/{name}")


def test_a_client_that_spells_every_default_out_is_served() -> None:
    document = whole_document("/k", "/d", "/p", "/s")
    config = parse_config(document)
    assert config.cpus.nested
    assert config.cpus.core_scheduling is CoreScheduling.VM
    # What vm.info shows of it can be given again.
    assert parse_config(msgspec.to_builtins(config)) == config
    every = {*known(inspect.type_info(VmConfig), UNSUPPORTED)} - {""}
    assert {*pointers(document)} == every - ADDITIONS


def test_zero_is_not_false_and_an_unknown_part_is_unknown() -> None:
    assert refusal(with_fields("/iommu", 0)).code is ErrorCode.NOT_SUPPORTED
    assert "/platform/colour" in complaints(with_fields("/platform/colour", None))
    assert (
        "did you mean system_uuid"
        in complaints(with_fields("/platform/sistem_uuid", ""))["/platform/sistem_uuid"]
    )
    assert "/platform" in complaints(with_fields("/platform", 5))
    assert parse_config(with_fields("/platform", None))


@pytest.mark.parametrize(
    ("given", "meant"),
    [("/memoy", "memory"), ("/cpus/boot_vcpu", "boot_vcpus"), ("/diskz", "disks")],
)
def test_an_unknown_field_is_refused_with_the_nearest_known(given: str, meant: str) -> None:
    document = with_fields("/cpus/max_phys_bits", 46)
    *parents, name = given.split("/")[1:]
    (document[parents[0]] if parents else document)[name] = 1
    assert f"did you mean {meant}?" in complaints(document)[given]


def test_a_document_of_errors_gets_an_answer_of_bounded_size() -> None:
    document = {"payload": KERNEL} | {f"{number}" * 1000: number for number in range(5000)}
    error = refusal(document)
    assert len(error.fields) == MAX_ERRORS + 1
    assert error.fields[-1].message == f"has {5000 - MAX_ERRORS} more such fields"
    assert all(len(each.pointer) < 100 for each in error.fields)


def test_a_missing_list_may_be_null() -> None:
    config = parse_config({"payload": KERNEL, "disks": None, "net": None, "balloon": None})
    assert (config.disks, config.net, config.balloon) == ((), (), None)


def test_defaults_of_a_device_are_filled() -> None:
    config = parse_config({"payload": KERNEL, "disks": [{"path": "/disk"}]})
    assert config.disks == (DiskConfig(path="/disk"),)
    assert config.console == ConsoleConfig()
    assert config.rng == RngConfig(src="/dev/urandom")


def test_an_id_that_is_taken_has_a_code_of_its_own() -> None:
    document = {
        "payload": KERNEL,
        "disks": [{"path": "/a", "id": "one"}, {"path": "/b", "id": "one"}],
        "rng": {"id": "one"},
    }
    error = refusal(document)
    assert error.code is ErrorCode.DUPLICATE_ID
    assert [each.pointer for each in error.fields] == ["/disks/1/id", "/rng/id"]
    assert "/disks/0/id" in error.message
    # Beside another fault, it is one of several.
    error = refusal(document | {"watchdog": 1})
    assert error.code is ErrorCode.INVALID_CONFIG
    assert [each.pointer for each in error.fields] == ["/watchdog", "/disks/1/id", "/rng/id"]


@pytest.mark.parametrize("name", ["FixedVhd", "Qcow2", "Vhdx", "FlatVmdk"])
def test_an_image_of_another_type_is_refused_by_name(name: str) -> None:
    error = refusal(with_fields("/disks/0/image_type", name))
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert [each.pointer for each in error.fields] == ["/disks/0/image_type"]
    assert name in error.message
    assert "qemu-img" in error.message


def test_a_resize_is_parsed_like_a_configuration() -> None:
    parse = PARSERS[VmResize]
    assert parse({}) == VmResize()
    assert parse({"desired_balloon": 4096}) == VmResize(desired_balloon=4096)
    with pytest.raises(VmFailure) as caught:
        parse({"desired_vcpus": 0, "desired_ram": "1G", "desired_baloon": 1})
    error = caught.value.error
    assert error.code is ErrorCode.INVALID_REQUEST
    pointers = ["/desired_baloon", "/desired_vcpus", "/desired_ram"]
    assert [each.pointer for each in error.fields] == pointers
    assert "did you mean desired_balloon?" in error.message


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (DiskConfig, {"path": "/d", "vhost_user": False, "queue_affinity": None}),
        (NetConfig, {"tap": "t", "vhost_mode": "Client", "iommu": False}),
        (PmemConfig, {"file": "/p", "iommu": False}),
        (VsockConfig, {"cid": 3, "socket": "/s", "iommu": False}),
        (VmRemoveDevice, {"id": "_disk0"}),
    ],
)
def test_a_device_is_parsed_by_itself(kind: type, document: dict[str, Any]) -> None:
    parse = PARSERS[kind]
    assert isinstance(parse(document), kind)
    with pytest.raises(VmFailure) as caught:
        parse(document | {"colour": 1, "id": ""})
    assert [each.pointer for each in caught.value.error.fields] == ["/colour", "/id"]


def test_a_device_that_asks_for_what_is_not_built_is_refused_by_name() -> None:
    with pytest.raises(VmFailure) as caught:
        PARSERS[DiskConfig]({"path": "/d", "vhost_user": True})
    assert caught.value.error.code is ErrorCode.NOT_SUPPORTED
    assert [each.pointer for each in caught.value.error.fields] == ["/vhost_user"]


def test_unknown_fields_may_be_left_out_by_name() -> None:
    document = {
        "payload": {**KERNEL, "shim": "/s"},
        "disks": [{"path": "/d", "a/b": 1}],
        "platform": {"colour": "red"},
        "future": {},
    }
    ignored: list[str] = []
    config = parse_config(document, ignored=ignored)
    assert config == parse_config({"payload": KERNEL, "disks": [{"path": "/d"}]})
    assert ignored == ["/platform/colour", "/future", "/payload/shim", "/disks/0/a~1b"]
    # What is known and wrong, or not built, is refused as ever.
    with pytest.raises(VmFailure) as caught:
        parse_config(document | {"watchdog": 1, "iommu": True}, ignored=[])
    assert [each.pointer for each in caught.value.error.fields] == ["/watchdog", "/iommu"]
    ignored.clear()
    PARSERS[VmResize]({"desired_ram": 1 << 30, "force": True}, ignored=ignored)
    assert ignored == ["/force"]


def test_of_two_devices_the_newest_is_at_fault() -> None:
    document = {
        "payload": KERNEL,
        "disks": [{"path": "/a"}, {"path": "/p", "id": "one", "pci_device_id": 9}],
        "pmem": [{"file": "/p"}],
        "rng": {"id": "one", "pci_device_id": 9},
    }
    with pytest.raises(VmFailure) as caught:
        parse_config(document, newest="/disks/1")
    pointers = ["/disks/1/pci_device_id", "/disks/1/path", "/disks/1/id"]
    assert [each.pointer for each in caught.value.error.fields] == pointers
