# SPDX-License-Identifier: Apache-2.0
"""What must hold between the fields of a ``VmConfig``, beyond each one's own range.

A rule sees the fields that are right by themselves, by JSON pointer and with their
defaults, and is silent where one it needs is not among them: that one is reported
already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from ipc_protocol.config import CpuTopology
from ipc_protocol.config_devices import SerialMode
from ipc_protocol.errors import FieldError, VmFailure
from ipc_protocol.names import endpoint

__all__ = ["RULES", "Fields", "Rule"]


class Fields(dict[str, Any]):
    """The fields that are right by themselves, by JSON pointer.

    Args:
        newest: The pointer of a device that the others were there before; "" for none.
    """

    def __init__(self, newest: str = "") -> None:
        super().__init__()
        self._newest = newest

    def in_order(self, pointers: Iterable[str]) -> list[str]:
        """Return the pointers with those of the newest device last."""
        if not self._newest:
            return list(pointers)
        return sorted(pointers, key=lambda each: each.startswith(f"{self._newest}/"))


Rule: TypeAlias = Callable[[Fields], Iterator[FieldError]]

_HUGE_PAGE: Final = 2 << 20


def _vcpus(fields: Fields) -> Iterator[FieldError]:
    boot, most = fields.get("/cpus/boot_vcpus"), fields.get("/cpus/max_vcpus")
    if boot is not None and most is not None and boot > most:
        yield FieldError(
            "/cpus/max_vcpus", f"must be at least boot_vcpus, which is {boot}, not {most}"
        )


def _topology(fields: Fields) -> Iterator[FieldError]:
    names = CpuTopology.__struct_fields__
    parts = [fields.get(f"/cpus/topology/{name}") for name in names]
    most = fields.get("/cpus/max_vcpus")
    counts = [part for part in parts if part is not None]
    if most is None or len(counts) < len(names):
        return
    if (product := math.prod(counts)) != most:
        yield FieldError(
            "/cpus/topology",
            f"must multiply up to max_vcpus, which is {most}; {' * '.join(names)} is {product}",
        )


def _memory(fields: Fields) -> Iterator[FieldError]:
    size, bits = fields.get("/memory/size"), fields.get("/cpus/max_phys_bits")
    if fields.get("/memory/mergeable"):
        yield FieldError(
            "/memory/mergeable",
            "must be false: merged pages let one guest find out what another has in memory",
        )
    if size is None:
        return
    page = fields.get("/memory/hugepage_size") or _HUGE_PAGE
    if fields.get("/memory/hugepages") and size % page:
        yield FieldError("/memory/size", f"must be a multiple of {page} with hugepages, not {size}")
    if bits is not None and size >> bits:
        yield FieldError(
            "/memory/size",
            f"must fit into max_phys_bits of physical addresses: {size} needs more than {bits}",
        )


def _huge_pages(fields: Fields) -> Iterator[FieldError]:
    size = fields.get("/memory/hugepage_size")
    if size is None:
        return
    if size & (size - 1):
        yield FieldError("/memory/hugepage_size", f"must be a power of two, not {size}")
    if fields.get("/memory/hugepages") is False:
        yield FieldError("/memory/hugepage_size", "must not be given without hugepages")


def _affinity(fields: Fields) -> Iterator[FieldError]:
    most = fields.get("/cpus/max_vcpus")
    first: dict[int, str] = {}
    for index in range(len(fields.get("/cpus/affinity") or ())):
        pointer = f"/cpus/affinity/{index}/vcpu"
        vcpu = fields.get(pointer)
        if vcpu is None:
            continue
        if most is not None and vcpu >= most:
            yield FieldError(pointer, f"must be below max_vcpus, which is {most}, not {vcpu}")
        if first.setdefault(vcpu, pointer) != pointer:
            yield FieldError(pointer, f"is named before, at {first[vcpu]}: {vcpu}")


def _payload(fields: Fields) -> Iterator[FieldError]:
    if "/payload/kernel" in fields and fields["/payload/kernel"] is None:
        yield FieldError(
            "/payload/kernel",
            "is required: the path of a bzImage, or of an ELF image with a PVH note",
        )


def _terminals(fields: Fields) -> Iterator[FieldError]:
    for owner in ("/serial", "/console"):
        mode = fields.get(f"{owner}/mode")
        for needs, name in ((SerialMode.FILE, "file"), (SerialMode.SOCKET, "socket")):
            pointer = f"{owner}/{name}"
            if mode == needs and pointer in fields and fields[pointer] is None:
                yield FieldError(pointer, f"is required with mode {needs}: the path of the {name}")


def _sockets(fields: Fields) -> Iterator[FieldError]:
    # Of a vsock device, the longest path is the one that the guest's connection goes to.
    suffixes = {"/serial/socket": "", "/console/socket": "", "/vsock/socket": "_4294967295"}
    for pointer, suffix in suffixes.items():
        path = fields.get(pointer)
        if path is None:
            continue
        try:
            endpoint(path + suffix)
        except VmFailure as ex:
            yield FieldError(pointer, ex.error.message)


RULES: Final[tuple[Rule, ...]] = (
    _vcpus,
    _topology,
    _affinity,
    _memory,
    _huge_pages,
    _payload,
    _terminals,
    _sockets,
)
