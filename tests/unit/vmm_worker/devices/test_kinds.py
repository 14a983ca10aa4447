# SPDX-License-Identifier: Apache-2.0
"""Which devices a configuration asks for, with which ids and in which slots."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given as drawn

from ipc_protocol.config import PayloadConfig, VmConfig
from ipc_protocol.config_devices import (
    BalloonConfig,
    ConsoleConfig,
    DiskConfig,
    NetConfig,
    PmemConfig,
    RateLimiterConfig,
    RateLimitGroupConfig,
    RngConfig,
    SerialMode,
    VsockConfig,
)
from kvm_shim import Device, Vm
from kvm_shim.virtio.place import Place
from tests.unit.ipc_protocol.strategies import CONFIG
from vmm_worker.devices.backend import Backend
from vmm_worker.devices.kinds import KINDS, Installed, completed, load_kinds, shown, wanted_devices


class Pretended(Backend):
    """Opens nothing and finds a MAC address."""

    def attach(self, vm: Vm, place: Place) -> Device:
        """Never called."""
        raise NotImplementedError

    def found(self) -> dict[str, object]:
        """Return what a network device would have drawn."""
        return {"mac": "52:54:00:12:34:56"} if "net" in self.id else {}


def config(**parts: Any) -> VmConfig:
    return VmConfig(PayloadConfig(kernel="/k"), **parts)


def table(given: VmConfig) -> list[tuple[str, str, int]]:
    return [(each.pointer, each.id, each.slot) for each in wanted_devices(given)]


@drawn(CONFIG)
def test_each_device_has_a_slot_and_a_name_of_its_own(given: VmConfig) -> None:
    wanted = wanted_devices(given)
    slots = [each.slot for each in wanted]
    names = [each.id for each in wanted] + [group.id for group in given.rate_limit_groups]
    assert len(set(slots)) == len(slots)
    assert set(slots) <= set(range(1, 32))
    assert len(set(names)) == len(names)
    assert wanted == wanted_devices(given)


def test_every_kind_can_be_loaded() -> None:
    for kind in KINDS:
        assert callable(kind.load())
    load_kinds(config())


def test_devices_are_made_in_this_order() -> None:
    given = config(
        pvpanic=True,
        watchdog=True,
        balloon=BalloonConfig(size=0),
        vsock=VsockConfig(cid=3, socket="/v"),
        pmem=(PmemConfig(file="/p"),),
        net=(NetConfig(),),
        disks=(DiskConfig(path="/d"),),
    )
    assert table(given) == [
        ("/console", "__console", 1),
        ("/disks/0", "_disk0", 2),
        ("/net/0", "_net1", 3),
        ("/rng", "__rng", 4),
        ("/pmem/0", "_pmem2", 5),
        ("/vsock", "_vsock3", 6),
        ("/balloon", "__balloon", 7),
        ("/watchdog", "__watchdog", 8),
        ("/pvpanic", "__pvpanic", 9),
    ]


def test_a_vm_has_a_console_and_entropy() -> None:
    assert table(config()) == [("/console", "__console", 1), ("/rng", "__rng", 2)]
    off = ConsoleConfig(mode=SerialMode.OFF)
    assert table(config(console=off)) == [("/rng", "__rng", 1)]


def test_the_numbers_of_all_kinds_come_from_one_counter() -> None:
    given = config(
        disks=(DiskConfig(path="/a"), DiskConfig(path="/b", id="data"), DiskConfig(path="/c")),
        net=(NetConfig(), NetConfig(id="lan")),
    )
    assert table(given) == [
        ("/console", "__console", 1),
        ("/disks/0", "_disk0", 2),
        ("/disks/1", "data", 3),
        ("/disks/2", "_disk1", 4),
        ("/net/0", "_net2", 5),
        ("/net/1", "lan", 6),
        ("/rng", "__rng", 7),
    ]


def test_a_name_that_is_given_is_not_given_again() -> None:
    group = RateLimitGroupConfig("_disk0", RateLimiterConfig())
    given = config(
        rate_limit_groups=(group,),
        disks=(DiskConfig(path="/a"), DiskConfig(path="/b")),
        rng=RngConfig(id="_disk1"),
    )
    assert [name for _, name, _ in table(given)] == ["__console", "_disk2", "_disk3", "_disk1"]


def test_a_slot_that_is_asked_for_is_kept_free() -> None:
    given = config(
        disks=(DiskConfig(path="/a"), DiskConfig(path="/b", pci_device_id=1)),
        rng=RngConfig(pci_device_id=31),
    )
    assert [slot for _, _, slot in table(given)] == [2, 3, 1, 31]


def test_the_configuration_is_shown_with_what_was_found() -> None:
    given = config(net=(NetConfig(tap="a"), NetConfig(tap="b", id="lan")))
    installed = [Installed(wanted, Pretended(wanted.id)) for wanted in wanted_devices(given)]
    found = shown(given, installed)
    assert found.console == ConsoleConfig(id="__console")
    assert found.rng == RngConfig(id="__rng")
    assert found.net == (
        NetConfig(tap="a", id="_net0", mac="52:54:00:12:34:56"),
        NetConfig(tap="b", id="lan"),
    )
    assert shown(given, ()) == given


def test_a_mac_address_is_drawn_once() -> None:
    mac = "52:54:00:12:34:56"
    given = config(net=(NetConfig(), NetConfig(mac=mac)))
    first, second = completed(given).net
    assert first.mac != completed(given).net[0].mac
    assert second.mac == mac
    assert completed(completed(given)).net[1] == second


def test_ids_are_settled_once_and_by_name() -> None:
    given = completed(
        config(disks=(DiskConfig(path="/a"), DiskConfig(path="/b", id="data")), watchdog=True)
    )
    assert [disk.id for disk in given.disks] == ["_disk0", "data"]
    assert (given.console.id, given.rng.id) == ("__console", "__rng")
    assert completed(given) == given
    # One that is removed leaves the names of the others as they are.
    less = msgspec.structs.replace(given, disks=given.disks[1:])
    more = msgspec.structs.replace(less, disks=(*less.disks, DiskConfig(path="/c")))
    assert [disk.id for disk in completed(more).disks] == ["data", "_disk0"]
    off = config(console=ConsoleConfig(mode=SerialMode.OFF))
    assert completed(off).console == off.console
