# SPDX-License-Identifier: Apache-2.0
"""What must hold between the devices of a ``VmConfig``, and between the fields of each.

As in ``ipc_protocol.rules``, a rule sees only fields that are right by themselves; of an
array or an object it finds the plain value at its own pointer.
"""

from __future__ import annotations

import os.path
import re
import socket
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from ipc_protocol.config_devices import (
    DEFAULT_IDS,
    MAX_PCI_DEVICES,
    ImageType,
    SerialMode,
)
from ipc_protocol.errors import FieldError
from ipc_protocol.rules import Fields, Rule

__all__ = ["CLASHES", "GAPS", "RULES"]

_ID: Final = re.compile(r"[!-~]+")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
_INTERFACE: Final = re.compile(r"(?!\.{1,2}$)[!-.0-9;-~]+")
_SERIAL_BYTES: Final = re.compile(r"[ -~]*")


def _elements(fields: Fields, array: str) -> Iterator[str]:
    """Yield the pointer of each element of an array."""
    return (f"{array}/{index}" for index in range(len(fields.get(array) or ())))


def _pci_devices(fields: Fields) -> Iterator[str]:
    """Yield the pointer of each PCI device, in the order in which they are made."""
    if fields.get("/console/mode") != SerialMode.OFF:
        yield "/console"
    yield from _elements(fields, "/disks")
    yield from _elements(fields, "/net")
    yield "/rng"
    yield from _elements(fields, "/pmem")
    yield from (name for name in ("/vsock", "/balloon") if fields.get(name) is not None)
    yield from (name for name in ("/watchdog", "/pvpanic") if fields.get(name))


def _twice(fields: Fields, pointers: Iterable[str], advice: str) -> Iterator[FieldError]:
    """Complain of each value that one of the pointers before has too."""
    first: dict[object, str] = {}
    for pointer in fields.in_order(pointers):
        value = fields.get(pointer)
        if value is not None and first.setdefault(value, pointer) != pointer:
            yield FieldError(pointer, f"is taken by {first[value]}: {value!a}; {advice}")


# ---- what all PCI devices have -----------------------------------------------


def _slots(fields: Fields) -> Iterator[FieldError]:
    devices = list(_pci_devices(fields))
    if len(devices) > MAX_PCI_DEVICES:
        yield FieldError(
            "",
            f"must have at most {MAX_PCI_DEVICES} PCI devices, console and rng included, "
            f"not {len(devices)}",
        )
    for device in devices:
        if fields.get(f"{device}/pci_segment"):
            yield FieldError(f"{device}/pci_segment", "must be 0: there is one PCI segment")
    slots = (f"{device}/pci_device_id" for device in devices)
    yield from _twice(fields, slots, "give another, or none to get the first free")


def _named(fields: Fields) -> Iterator[str]:
    for owner in chain(_elements(fields, "/rate_limit_groups"), _pci_devices(fields)):
        if fields.get(f"{owner}/id") is not None:
            yield f"{owner}/id"


def _ids(fields: Fields) -> Iterator[FieldError]:
    for pointer in _named(fields):
        if _ID.fullmatch(fields[pointer]) is None:
            yield FieldError(pointer, "must be of ASCII characters without spaces")
        elif fields[pointer].startswith("__") and fields[pointer] != _own_id(pointer):
            yield FieldError(pointer, "must not begin with '__': such ids are the machine's own")


def _own_id(pointer: str) -> str:
    """Return what a device is called that is given no name; ``vm.info`` shows it as its id."""
    return DEFAULT_IDS.get(pointer.split("/")[1], "")


def _unique_ids(fields: Fields) -> Iterator[FieldError]:
    return _twice(fields, _named(fields), "ids are unique within a VM")


# ---- limits ------------------------------------------------------------------


def _limiters(fields: Fields) -> Iterator[FieldError]:
    owners = chain(
        _elements(fields, "/rate_limit_groups"),
        _elements(fields, "/disks"),
        _elements(fields, "/net"),
        ("/rng",),
    )
    for owner in owners:
        pointer = f"{owner}/rate_limiter_config"
        kinds = [f"{pointer}/bandwidth", f"{pointer}/ops"]
        if all(kind in fields and fields[kind] is None for kind in kinds):
            yield FieldError(pointer, "must have bandwidth, ops or both")


def _groups(fields: Fields) -> Iterator[FieldError]:
    known = {fields.get(f"{group}/id") for group in _elements(fields, "/rate_limit_groups")}
    for disk in _elements(fields, "/disks"):
        group = fields.get(f"{disk}/rate_limit_group")
        if group is None:
            continue
        if group not in known:
            yield FieldError(
                f"{disk}/rate_limit_group", f"must be the id of one of rate_limit_groups: {group!a}"
            )
        if fields.get(f"{disk}/rate_limiter_config") is not None:
            yield FieldError(
                f"{disk}/rate_limit_group", "must not be given beside rate_limiter_config"
            )


# ---- queues ------------------------------------------------------------------


def _queue_sizes(fields: Fields) -> Iterator[FieldError]:
    for device in chain(_elements(fields, "/disks"), _elements(fields, "/net")):
        size = fields.get(f"{device}/queue_size")
        if size is not None and size & (size - 1):
            yield FieldError(f"{device}/queue_size", f"must be a power of two, not {size}")


def _queue_counts(fields: Fields) -> Iterator[FieldError]:
    vcpus = fields.get("/cpus/boot_vcpus")
    for device, each in chain(
        ((disk, 1) for disk in _elements(fields, "/disks")),
        ((net, 2) for net in _elements(fields, "/net")),
    ):
        pointer = f"{device}/num_queues"
        count = fields.get(pointer)
        if count is None:
            continue
        if count % each:
            yield FieldError(pointer, f"must be even, one of each two to receive, not {count}")
        elif vcpus is not None and count // each > vcpus:
            most = "boot_vcpus" if each == 1 else "twice boot_vcpus"
            yield FieldError(pointer, f"must be at most {most}, which is {vcpus * each}: {count}")


# ---- disks and pmem ----------------------------------------------------------


def _serial_numbers(fields: Fields) -> Iterator[FieldError]:
    for disk in _elements(fields, "/disks"):
        serial = fields.get(f"{disk}/serial")
        if serial is not None and _SERIAL_BYTES.fullmatch(serial) is None:
            yield FieldError(f"{disk}/serial", "must be of printable ASCII characters")


def _files(fields: Fields) -> Iterator[FieldError]:
    """Two that write to one file would destroy it, as would one beneath a reader's cache."""
    uses = {f"{disk}/path": f"{disk}/readonly" for disk in _elements(fields, "/disks")}
    uses |= {f"{pmem}/file": f"{pmem}/discard_writes" for pmem in _elements(fields, "/pmem")}
    users: dict[str, tuple[str, bool]] = {}
    for pointer in fields.in_order(uses):
        path, spares = fields.get(pointer), uses[pointer]
        if path is None or spares not in fields:
            continue
        writes = not fields[spares]
        other, written = users.setdefault(os.path.normpath(path), (pointer, writes))
        if other == pointer:
            continue
        if writes or written:
            yield FieldError(
                pointer, f"is taken by {other}, and one of the two writes to it: {path!a}"
            )


def _image_types(fields: Fields) -> Iterator[FieldError]:
    for disk in _elements(fields, "/disks"):
        kind = fields.get(f"{disk}/image_type")
        if kind not in (None, ImageType.RAW, ImageType.UNKNOWN):
            yield FieldError(
                f"{disk}/image_type",
                f"{kind} is not supported yet: convert the image with 'qemu-img convert -O raw'",
            )


# ---- memory ------------------------------------------------------------------


def _shared_reserve(fields: Fields) -> Iterator[FieldError]:
    shared, huge = fields.get("/memory/shared"), fields.get("/memory/hugepages", True)
    if fields.get("/memory/reserve") and shared and not huge:
        yield FieldError(
            "/memory/reserve",
            "is not possible for shared memory, of which Linux reserves only huge pages: "
            "prefault it, or leave it out",
        )


# ---- network -----------------------------------------------------------------


def _taps(fields: Fields) -> Iterator[FieldError]:
    taps = [f"{net}/tap" for net in _elements(fields, "/net")]
    for pointer in taps:
        name = fields.get(pointer)
        if name is not None and _INTERFACE.fullmatch(name) is None:
            yield FieldError(pointer, f"cannot be the name of a network interface: {name!a}")
    yield from _twice(fields, taps, "each device needs an interface of its own")


def _macs(fields: Fields) -> Iterator[FieldError]:
    macs = [f"{net}/mac" for net in _elements(fields, "/net")]
    for pointer in chain(macs, (f"{net}/host_mac" for net in _elements(fields, "/net"))):
        mac = fields.get(pointer)
        if mac is None:
            continue
        if _MAC.fullmatch(mac) is None:
            yield FieldError(pointer, f"must be six bytes such as 52:54:00:12:34:56, not {mac!a}")
        elif int(mac[:2], 16) & 1 or not int(mac.replace(":", ""), 16):
            yield FieldError(pointer, f"must be the address of one station, not {mac}")
    yield from _twice(fields, macs, "give each device its own, or none to have one drawn")


def _addresses(fields: Fields) -> Iterator[FieldError]:
    for net in _elements(fields, "/net"):
        given = [f"{net}/{name}" for name in ("ip", "mask")]
        texts = [fields[pointer] for pointer in given if pointer in fields]
        bits = [None if text is None else _address(text) for text in texts]
        for pointer, text, value in zip(given, texts, bits, strict=False):
            if text is not None and value is None:
                yield FieldError(pointer, f"must be an IPv4 or IPv6 address, not {text!a}")
        if len(texts) < len(given) or texts == [None, None]:
            continue
        if None in texts:
            missing = given[texts.index(None)]
            yield FieldError(missing, "is required: ip and mask go together")
            continue
        ip, mask = bits
        if ip is None or mask is None:
            continue
        if len(ip) != len(mask):
            yield FieldError(given[1], "must be of the same family as ip")
        elif "01" in "".join(f"{byte:08b}" for byte in mask):
            yield FieldError(given[1], f"must be ones and then zeros, not {texts[1]}")


def _address(text: str) -> bytes | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return None


def _offloads(fields: Fields) -> Iterator[FieldError]:
    for net in _elements(fields, "/net"):
        if fields.get(f"{net}/offload_csum", True):
            continue
        for name in ("offload_tso", "offload_ufo"):
            if fields.get(f"{net}/{name}"):
                yield FieldError(f"{net}/{name}", "must be false without offload_csum")


# ---- the rest ----------------------------------------------------------------


def _balloon(fields: Fields) -> Iterator[FieldError]:
    size, memory = fields.get("/balloon/size"), fields.get("/memory/size")
    if size is not None and memory is not None and size >= memory:
        yield FieldError("/balloon/size", f"must be less than the memory, {memory}, not {size}")


def _shared_paths(fields: Fields) -> Iterator[FieldError]:
    paths = [
        f"{owner}/{name}"
        for owner, mode in (("/serial", "/serial/mode"), ("/console", "/console/mode"))
        for needs, name in ((SerialMode.FILE, "file"), (SerialMode.SOCKET, "socket"))
        if fields.get(mode) == needs
    ]
    return _twice(fields, [*paths, "/vsock/socket"], "each needs a path of its own")


RULES: Final[tuple[Rule, ...]] = (
    _slots,
    _ids,
    _limiters,
    _groups,
    _queue_sizes,
    _queue_counts,
    _serial_numbers,
    _files,
    _taps,
    _macs,
    _addresses,
    _offloads,
    _balloon,
    _shared_paths,
)
CLASHES: Final[tuple[Rule, ...]] = (_unique_ids,)
"""Rules about ids that are taken, which have an error code of their own."""
GAPS: Final[tuple[Rule, ...]] = (_image_types, _shared_reserve)
"""Rules about values that are right but not built yet."""
