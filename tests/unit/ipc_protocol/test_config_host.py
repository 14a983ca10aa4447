# SPDX-License-Identifier: Apache-2.0
"""A file that describes a VM: what the guest gets, and what the host does for it."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given

from ipc_protocol.config import VmConfig
from ipc_protocol.config_host import HostConfig, HostConsole, TapMaker
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.schema import file_schema
from ipc_protocol.validation import parse_config, parse_file
from tests.unit.ipc_protocol.strategies import CONFIG

VALIDATOR = jsonschema.Draft202012Validator(file_schema())
KERNEL = {"payload": {"kernel": "/k"}}
MIB = 1 << 20


def described(**host: Any) -> dict[str, Any]:
    return {**KERNEL, "host": host}


def test_without_a_word_about_the_host_it_is_a_configuration() -> None:
    file = parse_file(KERNEL)
    assert file.config == parse_config(KERNEL)
    assert type(file.config) is VmConfig
    assert file.host == HostConfig()
    assert (file.host.autostart, file.host.restart, file.host.console) == (True, True, None)
    assert file.memory_max == (512 + 256) * MIB
    assert file.cpu_quota == 200


@given(CONFIG)
def test_every_configuration_makes_a_file(config: VmConfig) -> None:
    document = msgspec.json.decode(msgspec.json.encode(config))
    assert parse_file(document).config == parse_config(document)
    VALIDATOR.validate(document)


def test_all_that_can_be_said_of_the_host() -> None:
    document = described(
        autostart=False,
        restart=False,
        console="journal",
        taps="prepare",
        memory_max="2G",
        cpu_quota=150,
        cpu_weight=50,
        io_weight=10,
        io_read_bandwidth_max={"/dev/vda": 10 * MIB},
        io_write_bandwidth_max={"/var/lib/velum": MIB},
        tasks_max=64,
    )
    VALIDATOR.validate(document)
    file = parse_file(document)
    assert (file.host.console, file.host.taps) == (HostConsole.JOURNAL, TapMaker.PREPARE)
    assert (file.memory_max, file.cpu_quota) == (2048 * MIB, 150)
    assert file.host.io_read_bandwidth_max == {"/dev/vda": 10 * MIB}


@pytest.mark.parametrize(
    ("host", "pointer"),
    [
        ({"autostart": 1}, "/host/autostart"),
        ({"console": "pty"}, "/host/console"),
        ({"memory_max": 5}, "/host/memory_max"),
        ({"memory_max": "a lot"}, "/host/memory_max"),
        ({"memory_max": ""}, "/host/memory_max"),
        ({"memory_max": "512M"}, "/host/memory_max"),
        ({"cpu_quota": 0}, "/host/cpu_quota"),
        ({"cpu_weight": 10001}, "/host/cpu_weight"),
        ({"io_read_bandwidth_max": []}, "/host/io_read_bandwidth_max"),
        ({"io_read_bandwidth_max": {"/dev/vda": "1M"}}, "/host/io_read_bandwidth_max/~1dev~1vda"),
        ({"io_write_bandwidth_max": {"vda": 1}}, "/host/io_write_bandwidth_max"),
        ({"io_write_bandwidth_max": {"/dev/v da": 1}}, "/host/io_write_bandwidth_max"),
        (
            {"io_write_bandwidth_max": {f"/{n}": 1 for n in range(65)}},
            "/host/io_write_bandwidth_max",
        ),
        ({"tasks_max": 1}, "/host/tasks_max"),
        ({"memory_limit": "1G"}, "/host/memory_limit"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(host: dict[str, Any], pointer: str) -> None:
    with pytest.raises(VmFailure) as caught:
        parse_file(described(**host))
    assert caught.value.error.code is ErrorCode.INVALID_CONFIG
    assert [each.pointer for each in caught.value.error.fields] == [pointer]


def test_taps_that_are_prepared_have_names_and_their_addresses_already() -> None:
    net = {"tap": "t0", "ip": "10.0.0.1", "mask": "255.0.0.0", "mtu": 1400}
    file = parse_file({**described(taps="prepare"), "net": [net]})
    assert (file.net[0].ip, file.net[0].mask) == ("10.0.0.1", "255.0.0.0")
    (asked,) = file.config.net
    assert (asked.tap, asked.ip, asked.mask, asked.mtu) == ("t0", None, None, 1400)
    for nameless in ({}, {"tap": "vmtap%d"}):
        with pytest.raises(VmFailure, match="/net/0/tap"):
            parse_file({**described(taps="prepare"), "net": [nameless]})


def test_the_api_takes_no_host() -> None:
    with pytest.raises(VmFailure, match="/host"):
        parse_config(described(restart=True))
