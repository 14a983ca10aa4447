# SPDX-License-Identifier: Apache-2.0
"""What must hold between devices, and between the fields of one."""

from __future__ import annotations

from typing import Any

import pytest

from ipc_protocol.errors import VmFailure
from ipc_protocol.validation import parse_config

LIMIT = {"ops": {"size": 10, "refill_time": 100}}
GROUP = {"id": "slow", "rate_limiter_config": LIMIT}


def disk(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"path": f"/{name}", **fields}


def faults(parts: dict[str, Any]) -> list[str]:
    """Return the pointers of what is wrong with a configuration of 2 vCPUs and 64 MiB."""
    document = {
        "payload": {"kernel": "/k"},
        "cpus": {"boot_vcpus": 2, "max_vcpus": 2},
        "memory": {"size": 64 << 20},
    }
    try:
        parse_config(document | parts)
    except VmFailure as ex:
        return [each.pointer for each in ex.error.fields]
    return []


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        # 31 slots, two of which are the console's and the entropy device's.
        ({"disks": [disk(f"{i}") for i in range(29)]}, []),
        ({"disks": [disk(f"{i}") for i in range(30)]}, [""]),
        ({"disks": [disk(f"{i}") for i in range(30)], "console": {"mode": "Off"}}, []),
        (
            {
                "disks": [disk(f"{i}") for i in range(20)],
                "net": [{} for _ in range(5)],
                "vsock": {"cid": 3, "socket": "/s"},
                "balloon": {"size": 0},
                "pmem": [{"file": "/p"}],
                "watchdog": True,
                "pvpanic": True,
            },
            [""],
        ),
        ({"rng": {"pci_segment": 1}}, ["/rng/pci_segment"]),
        (
            {"disks": [disk(pci_device_id=3)], "rng": {"pci_device_id": 3}},
            ["/rng/pci_device_id"],
        ),
        ({"disks": [disk(pci_device_id=3)], "rng": {"pci_device_id": 31}}, []),
        # Of a console that is off, nothing takes a slot or a name.
        (
            {"console": {"mode": "Off", "pci_device_id": 3, "id": "a"}}
            | {"disks": [disk(pci_device_id=3, id="a")]},
            [],
        ),
    ],
)
def test_slots(parts: dict[str, Any], pointers: list[str]) -> None:
    assert faults(parts) == pointers


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ({"disks": [disk(id="_disk0"), disk("b", id="a/b:c")]}, []),
        ({"disks": [disk(id="__disk")]}, ["/disks/0/id"]),
        ({"disks": [disk(id="a b")]}, ["/disks/0/id"]),
        ({"disks": [disk(id="a\n")]}, ["/disks/0/id"]),
        ({"disks": [disk(id="\u00e9")]}, ["/disks/0/id"]),
        ({"disks": [disk(id="a"), disk("b", id="a")]}, ["/disks/1/id"]),
        ({"rate_limit_groups": [GROUP], "rng": {"id": "slow"}}, ["/rng/id"]),
        ({"rate_limit_groups": [GROUP, GROUP]}, ["/rate_limit_groups/1/id"]),
    ],
)
def test_ids(parts: dict[str, Any], pointers: list[str]) -> None:
    assert faults(parts) == pointers


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ({"disks": [disk(rate_limiter_config=LIMIT)]}, []),
        ({"disks": [disk(rate_limiter_config={})]}, ["/disks/0/rate_limiter_config"]),
        ({"rng": {"rate_limiter_config": {}}}, ["/rng/rate_limiter_config"]),
        ({"net": [{"rate_limiter_config": {"ops": None}}]}, ["/net/0/rate_limiter_config"]),
        (
            {"rate_limit_groups": [{"id": "a", "rate_limiter_config": {}}]},
            ["/rate_limit_groups/0/rate_limiter_config"],
        ),
        ({"rate_limit_groups": [GROUP], "disks": [disk(rate_limit_group="slow")]}, []),
        ({"disks": [disk(rate_limit_group="slow")]}, ["/disks/0/rate_limit_group"]),
        (
            {"rate_limit_groups": [GROUP]}
            | {"disks": [disk(rate_limit_group="slow", rate_limiter_config=LIMIT)]},
            ["/disks/0/rate_limit_group"],
        ),
        # What a limiter holds is looked at first.
        (
            {"disks": [disk(rate_limiter_config={"ops": {"size": 1}})]},
            ["/disks/0/rate_limiter_config/ops/refill_time"],
        ),
    ],
)
def test_limits(parts: dict[str, Any], pointers: list[str]) -> None:
    assert faults(parts) == pointers


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ({"disks": [disk(num_queues=2)]}, []),
        ({"disks": [disk(num_queues=3)]}, ["/disks/0/num_queues"]),
        ({"disks": [disk(queue_size=96)]}, ["/disks/0/queue_size"]),
        ({"net": [{"num_queues": 4}]}, []),
        ({"net": [{"num_queues": 6}]}, ["/net/0/num_queues"]),
        ({"net": [{"num_queues": 3}]}, ["/net/0/num_queues"]),
        ({"net": [{"queue_size": 1000}]}, ["/net/0/queue_size"]),
    ],
)
def test_queues(parts: dict[str, Any], pointers: list[str]) -> None:
    assert faults(parts) == pointers


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ({"disks": [disk(serial="disk-1 %")]}, []),
        ({"disks": [disk(serial="\u00e9")]}, ["/disks/0/serial"]),
        ({"disks": [disk(serial="a\tb")]}, ["/disks/0/serial"]),
        ({"disks": [disk(), disk()]}, ["/disks/1/path"]),
        ({"disks": [disk(readonly=True), disk()]}, ["/disks/1/path"]),
        ({"disks": [disk(), disk(readonly=True)]}, ["/disks/1/path"]),
        ({"disks": [disk(readonly=True), disk(readonly=True)]}, []),
        ({"disks": [disk("x/../a"), disk("./a")]}, ["/disks/1/path"]),
        ({"disks": [disk()], "pmem": [{"file": "/a"}]}, ["/pmem/0/file"]),
        (
            {"disks": [disk(readonly=True)], "pmem": [{"file": "/a", "discard_writes": True}]},
            [],
        ),
        ({"balloon": {"size": (64 << 20) - 4096}}, []),
        ({"balloon": {"size": 64 << 20}}, ["/balloon/size"]),
    ],
)
def test_disks_and_memory(parts: dict[str, Any], pointers: list[str]) -> None:
    assert faults(parts) == pointers


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"tap": "vmtap-0.1"}, []),
        ({"tap": "a/b"}, ["tap"]),
        ({"tap": "a b"}, ["tap"]),
        ({"tap": "eth0:1"}, ["tap"]),
        ({"tap": ".."}, ["tap"]),
        ({"mac": "52:54:00:12:34:56", "host_mac": "02:00:00:00:00:0F"}, []),
        ({"mac": "52:54:00:12:34"}, ["mac"]),
        ({"mac": "52-54-00-12-34-56"}, ["mac"]),
        ({"mac": "53:54:00:12:34:56"}, ["mac"]),
        ({"mac": "00:00:00:00:00:00"}, ["mac"]),
        ({"host_mac": "ff:ff:ff:ff:ff:ff"}, ["host_mac"]),
        ({"ip": "10.0.0.1", "mask": "255.255.255.0"}, []),
        ({"ip": "fd00::1", "mask": "ffff:ffff::"}, []),
        ({"ip": "10.0.0.1"}, ["mask"]),
        ({"mask": "255.0.0.0"}, ["ip"]),
        ({"ip": "10.0.0.256", "mask": "255.0.0.0"}, ["ip"]),
        ({"ip": "10.0.0.1", "mask": "24"}, ["mask"]),
        ({"ip": "10.0.0.1", "mask": "255.0.255.0"}, ["mask"]),
        ({"ip": "10.0.0.1", "mask": "ffff::"}, ["mask"]),
        ({"ip": "bad"}, ["ip", "mask"]),
        ({"offload_csum": False}, ["offload_tso", "offload_ufo"]),
        ({"offload_csum": False, "offload_tso": False, "offload_ufo": False}, []),
    ],
)
def test_network(fields: dict[str, Any], names: list[str]) -> None:
    assert faults({"net": [fields]}) == [f"/net/0/{name}" for name in names]


@pytest.mark.parametrize("name", ["tap", "mac"])
def test_two_networks_have_nothing_in_common(name: str) -> None:
    value = {"tap": "tap0", "mac": "52:54:00:12:34:56"}[name]
    assert faults({"net": [{name: value}, {}, {name: value}]}) == [f"/net/2/{name}"]


def test_what_listens_or_writes_has_a_path_of_its_own() -> None:
    parts: dict[str, Any] = {
        "serial": {"mode": "Socket", "socket": "/s"},
        "console": {"mode": "Socket", "socket": "/s"},
        "vsock": {"cid": 3, "socket": "/s"},
    }
    assert faults(parts) == ["/console/socket", "/vsock/socket"]
    parts["serial"]["mode"] = "Null"
    parts["console"]["mode"] = "Off"
    assert faults(parts) == []


def test_shared_memory_is_reserved_in_huge_pages_only() -> None:
    for memory, pointers in (
        ({"reserve": True}, []),
        ({"shared": True}, []),
        ({"reserve": True, "shared": True, "hugepages": True}, []),
        ({"reserve": True, "shared": True}, ["/memory/reserve"]),
    ):
        assert faults({"memory": {"size": 64 << 20, **memory}}) == pointers


def test_a_device_may_have_the_id_that_it_would_get() -> None:
    assert faults({"rng": {"id": "__rng"}, "console": {"id": "__console", "mode": "Null"}}) == []
    assert faults({"rng": {"id": "__console"}}) == ["/rng/id"]
