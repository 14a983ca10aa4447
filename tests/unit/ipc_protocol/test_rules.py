# SPDX-License-Identifier: Apache-2.0
"""What must hold between fields that are right by themselves."""

from __future__ import annotations

import pytest

from ipc_protocol.rules import RULES

Fields = dict[str, object]
MIB = 1 << 20


def broken(fields: Fields) -> list[str]:
    return [each.pointer for rule in RULES for each in rule(fields)]


def topology(threads: int, cores: int, dies: int, packages: int) -> Fields:
    return {
        "/cpus/topology/threads_per_core": threads,
        "/cpus/topology/cores_per_die": cores,
        "/cpus/topology/dies_per_package": dies,
        "/cpus/topology/packages": packages,
    }


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"/cpus/boot_vcpus": 2, "/cpus/max_vcpus": 2}, []),
        ({"/cpus/boot_vcpus": 3, "/cpus/max_vcpus": 2}, ["/cpus/max_vcpus"]),
        ({"/cpus/max_vcpus": 8, **topology(2, 2, 1, 2)}, []),
        ({"/cpus/max_vcpus": 9, **topology(2, 2, 1, 2)}, ["/cpus/topology"]),
        ({"/memory/mergeable": False}, []),
        ({"/memory/mergeable": True}, ["/memory/mergeable"]),
        ({"/memory/size": 3 * MIB, "/memory/hugepages": False}, []),
        ({"/memory/size": 4 * MIB, "/memory/hugepages": True}, []),
        ({"/memory/size": 3 * MIB, "/memory/hugepages": True}, ["/memory/size"]),
        (
            {
                "/memory/size": 3 << 30,
                "/memory/hugepages": True,
                "/memory/hugepage_size": 1 << 30,
            },
            [],
        ),
        (
            {"/memory/size": MIB, "/memory/hugepages": False, "/memory/hugepage_size": 3 * MIB},
            ["/memory/hugepage_size", "/memory/hugepage_size"],
        ),
        ({"/cpus/affinity": [{}], "/cpus/affinity/0/vcpu": 1, "/cpus/max_vcpus": 2}, []),
        (
            {
                "/cpus/affinity": [{}, {}, {}],
                "/cpus/affinity/0/vcpu": 1,
                "/cpus/affinity/1/vcpu": 2,
                "/cpus/affinity/2/vcpu": 1,
                "/cpus/max_vcpus": 2,
            },
            ["/cpus/affinity/1/vcpu", "/cpus/affinity/2/vcpu"],
        ),
        ({"/memory/size": (1 << 32) - MIB, "/cpus/max_phys_bits": 32}, []),
        ({"/memory/size": 1 << 32, "/cpus/max_phys_bits": 32}, ["/memory/size"]),
        ({"/payload/kernel": "/vmlinuz"}, []),
        ({"/payload/kernel": None}, ["/payload/kernel"]),
        ({"/serial/mode": "File", "/serial/file": "/log"}, []),
        ({"/serial/mode": "File", "/serial/file": None}, ["/serial/file"]),
        ({"/serial/mode": "Socket", "/serial/socket": "/s"}, []),
        ({"/serial/mode": "Socket", "/serial/socket": None}, ["/serial/socket"]),
        ({"/serial/mode": "Socket", "/serial/socket": "/" * 108}, ["/serial/socket"]),
        ({"/serial/mode": "Null", "/serial/file": None, "/serial/socket": None}, []),
        ({"/console/mode": "File", "/console/file": None}, ["/console/file"]),
        ({"/console/mode": "Socket", "/console/socket": "/" * 108}, ["/console/socket"]),
        ({"/vsock/socket": "/" * 96}, []),
        ({"/vsock/socket": "/" * 97}, ["/vsock/socket"]),
    ],
)
def test_rules(fields: Fields, pointers: list[str]) -> None:
    assert broken(fields) == pointers


def test_rules_are_silent_about_fields_that_are_wrong_already() -> None:
    assert broken({}) == []
    assert broken({"/cpus/max_vcpus": 9, "/cpus/topology/packages": 2}) == []
    assert broken({"/serial/mode": "File"}) == []
