# SPDX-License-Identifier: Apache-2.0
"""What must hold in a ``VmFile`` between what the guest gets and what the host gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ipc_protocol.config_host import TapMaker, byte_count
from ipc_protocol.errors import FieldError
from ipc_protocol.options import OptionError
from ipc_protocol.rules import Fields, Rule

__all__ = ["RULES"]


def _memory_max(fields: Fields) -> Iterator[FieldError]:
    text, size = fields.get("/host/memory_max"), fields.get("/memory/size")
    if text is None:
        return
    try:
        most = byte_count(text)
    except OptionError:
        yield FieldError("/host/memory_max", f"must be a size such as 512M or 2G, not {text!a}")
        return
    if size is not None and most <= size:
        yield FieldError(
            "/host/memory_max", f"must be more than the guest's RAM, which is {size} bytes: {text}"
        )


def _taps(fields: Fields) -> Iterator[FieldError]:
    if fields.get("/host/taps") != TapMaker.PREPARE:
        return
    for index in range(len(fields.get("/net") or ())):
        pointer = f"/net/{index}/tap"
        if pointer in fields and (fields[pointer] is None or "%" in fields[pointer]):
            yield FieldError(pointer, "must be a name where host.taps is prepare")


def _devices(fields: Fields) -> Iterator[FieldError]:
    for name in ("io_read_bandwidth_max", "io_write_bandwidth_max"):
        for path in fields.get(f"/host/{name}") or ():
            if not path.startswith("/") or any(each.isspace() for each in path):
                yield FieldError(
                    f"/host/{name}", f"must have paths for names, without spaces: {path!a}"
                )


RULES: Final[tuple[Rule, ...]] = (_memory_max, _taps, _devices)
