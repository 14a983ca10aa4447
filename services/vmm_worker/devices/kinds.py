# SPDX-License-Identifier: Apache-2.0
"""The one list of device kinds, and which devices a configuration asks for.

A kind's own module is loaded when a VM has such a device, and not before: one worker
runs per VM, and each pays for what it imports.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.config_devices import DEFAULT_IDS, MAX_PCI_DEVICES, SerialMode
from vmm_worker.devices.backend import Backend
from vmm_worker.machine.memory import pmem_start

__all__ = [
    "KINDS",
    "Installed",
    "Kind",
    "Wanted",
    "completed",
    "load_kinds",
    "shown",
    "wanted_devices",
]


_COUNTED: Final = re.compile(r"_[a-z]+([0-9]+)")
"""The ids of devices that have no name of their own."""


class Wanted(NamedTuple):
    """A PCI device that a configuration asks for."""

    kind: Kind
    id: str
    slot: int
    """Its number on bus 0."""
    pointer: str
    """Of its configuration: "/disks/0"."""
    config: Any
    """Its own configuration; true for a kind that has none."""


class Installed(NamedTuple):
    """A device and what it has open on the host."""

    wanted: Wanted
    backend: Backend


Opener: TypeAlias = Callable[[Wanted, VmConfig, Sequence[Installed]], Backend]
"""Opens the host's side, given the whole configuration and the devices opened before."""


class Kind(NamedTuple):
    """What there is to know of one kind of device."""

    field: str
    """Of ``VmConfig``."""
    load: Callable[[], Opener]
    """Imports the kind's module."""


def _console() -> Opener:
    from vmm_worker.devices.console import Console

    # What is typed goes to one device only.
    return lambda wanted, config, _: Console(
        wanted.id,
        wanted.config,
        pointer=wanted.pointer,
        stdin=config.serial.mode is not SerialMode.TTY,
    )


def _disk() -> Opener:
    from vmm_worker.devices.disk import Disk

    return lambda wanted, config, before: Disk(
        wanted.id,
        wanted.config,
        pointer=wanted.pointer,
        groups=config.rate_limit_groups,
        others=[each.backend for each in before],
    )


def _net() -> Opener:
    from vmm_worker.devices.net import Net

    return lambda wanted, _, __: Net(wanted.id, wanted.config, pointer=wanted.pointer)


def _rng() -> Opener:
    from vmm_worker.devices.rng import Rng

    return lambda wanted, _, __: Rng(wanted.id, wanted.config, pointer=wanted.pointer)


def _pmem() -> Opener:
    from vmm_worker.devices.pmem import Pmem

    def start(config: VmConfig, before: Sequence[Installed]) -> int:
        ends = [each.backend.end for each in before if isinstance(each.backend, Pmem)]
        return ends[-1] if ends else pmem_start(config.memory.size)

    return lambda wanted, config, before: Pmem(
        wanted.id, wanted.config, start(config, before), pointer=wanted.pointer
    )


def _vsock() -> Opener:
    from vmm_worker.devices.vsock import Vsock

    return lambda wanted, _, __: Vsock(wanted.id, wanted.config, pointer=wanted.pointer)


def _balloon() -> Opener:
    from vmm_worker.devices.balloon import Balloon

    return lambda wanted, _, __: Balloon(wanted.id, wanted.config)


def _watchdog() -> Opener:
    from vmm_worker.devices.watchdog import Watchdog

    return lambda wanted, _, __: Watchdog(wanted.id)


def _pvpanic() -> Opener:
    from vmm_worker.devices.pvpanic import Pvpanic

    return lambda wanted, _, __: Pvpanic(wanted.id)


KINDS: Final[tuple[Kind, ...]] = (
    Kind("console", _console),
    Kind("disks", _disk),
    Kind("net", _net),
    Kind("rng", _rng),
    Kind("pmem", _pmem),
    Kind("vsock", _vsock),
    Kind("balloon", _balloon),
    Kind("watchdog", _watchdog),
    Kind("pvpanic", _pvpanic),
)
"""In the order in which devices are made, which decides their slots and ids."""


def wanted_devices(config: VmConfig) -> tuple[Wanted, ...]:
    """Give each device of a configuration its id and its slot.

    The same configuration always gives the same. The ids of all kinds that are counted
    have one counter, as in Cloud Hypervisor, which passes over the numbers in names that the
    configuration gives.
    """
    asked = [(kind, *each) for kind in KINDS for each in _asked(config, kind.field)]
    names = {group.id for group in config.rate_limit_groups}
    names.update(getattr(each, "id", None) or "" for _, _, each in asked)
    slots = {getattr(each, "pci_device_id", None) for _, _, each in asked}
    free = (slot for slot in range(1, MAX_PCI_DEVICES + 1) if slot not in slots)
    used = {int(found[1]) for name in names if (found := _COUNTED.fullmatch(name))}
    numbers = (number for number in count() if number not in used)
    return tuple(
        Wanted(
            kind=kind,
            id=getattr(each, "id", None) or _default_id(kind, numbers),
            slot=getattr(each, "pci_device_id", None) or next(free),
            pointer=pointer,
            config=each,
        )
        for kind, pointer, each in asked
    )


def load_kinds(config: VmConfig) -> None:
    """Import ahead of its boot what the devices of a VM need."""
    for kind in KINDS:
        if any(_asked(config, kind.field)):
            kind.load()


def completed(config: VmConfig) -> VmConfig:
    """Return the configuration with what is settled once for the life of a VM.

    Ids, by which devices are removed again; and MAC addresses: a guest knows its network by
    its own, and so does whoever leases it an address.
    """
    ids = {wanted.pointer: {"id": wanted.id} for wanted in _described(wanted_devices(config))}
    config = _changed(config, ids)
    if all(net.mac for net in config.net):
        return config
    from vmm_worker.devices.net import draw_mac

    net = (
        each if each.mac else msgspec.structs.replace(each, mac=draw_mac()) for each in config.net
    )
    return msgspec.structs.replace(config, net=tuple(net))


def shown(config: VmConfig, devices: Sequence[Installed]) -> VmConfig:
    """Return the configuration with the devices' ids and what was found out at boot."""
    backends = {wanted.pointer: backend for wanted, backend in devices}
    found = {
        wanted.pointer: {"id": wanted.id, **backends[wanted.pointer].found()}
        for wanted in _described(wanted for wanted, _ in devices)
    }
    return _changed(config, found)


def _described(devices: Iterable[Wanted]) -> Iterator[Wanted]:
    """Yield the devices that have a configuration of their own."""
    return (wanted for wanted in devices if isinstance(wanted.config, msgspec.Struct))


def _changed(config: VmConfig, changes: Mapping[str, Mapping[str, object]]) -> VmConfig:
    """Return the configuration with changes to devices, given by pointer."""
    fields: dict[str, Any] = {}
    for field in {pointer.split("/")[1] for pointer in changes}:
        each = [
            msgspec.structs.replace(value, **changes.get(pointer, {}))
            for pointer, value in _asked(config, field)
        ]
        fields[field] = tuple(each) if isinstance(getattr(config, field), tuple) else each[0]
    return msgspec.structs.replace(config, **fields)


def _asked(config: VmConfig, field: str) -> Iterator[tuple[str, Any]]:
    """Yield the pointer and the configuration of each device in a field."""
    value = getattr(config, field)
    if isinstance(value, tuple):
        yield from ((f"/{field}/{index}", each) for index, each in enumerate(value))
    elif value and getattr(value, "mode", None) is not SerialMode.OFF:
        yield f"/{field}", value


def _default_id(kind: Kind, numbers: Iterator[int]) -> str:
    stem = DEFAULT_IDS[kind.field]
    return stem if stem.startswith("__") else f"{stem}{next(numbers)}"
