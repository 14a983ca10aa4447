# SPDX-License-Identifier: Apache-2.0
"""``vm.resize``: what it makes of a configuration, and what a running VM cannot do yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from ipc_protocol.messages import VmResize
from ipc_protocol.validation import parse_config

__all__ = ["check_running", "resized"]

_PARTS: Final = {
    "/cpus/": "desired_vcpus",
    "/num_queues": "desired_vcpus",
    "/memory/": "desired_ram",
    "/balloon/": "desired_balloon",
}
"""What of the configuration each of them can make wrong."""


def resized(config: VmConfig, request: VmResize) -> VmConfig:
    """Return the configuration with the sizes that are asked for.

    Raises:
        VmFailure: ``invalid_request`` when it would not be valid any more.
    """
    cpus, memory, balloon = config.cpus, config.memory, config.balloon
    if request.desired_vcpus is not None:
        cpus = msgspec.structs.replace(cpus, boot_vcpus=request.desired_vcpus)
    if request.desired_ram is not None:
        memory = msgspec.structs.replace(memory, size=request.desired_ram)
    if request.desired_balloon is not None:
        if balloon is None:
            raise _refusal([FieldError("/desired_balloon", "the VM has no balloon to resize")])
        balloon = msgspec.structs.replace(balloon, size=request.desired_balloon)
    changed = msgspec.structs.replace(config, cpus=cpus, memory=memory, balloon=balloon)
    try:
        return parse_config(msgspec.to_builtins(changed))
    except VmFailure as ex:
        fields = [
            FieldError(_asked(each.pointer, request), f"{each.pointer} {each.message}")
            for each in ex.error.fields
        ]
        raise _refusal(fields) from ex


def _asked(pointer: str, request: VmResize) -> str:
    """Return the pointer of what in a request brought a field of the configuration to its fault."""
    given = [name for name, _ in _given(request)]
    for part, name in _PARTS.items():
        if part in pointer and name in given:
            return f"/{name}"
    return f"/{given[0]}" if len(given) == 1 else ""


def check_running(config: VmConfig, request: VmResize) -> None:
    """Refuse what only a VM that is not booted can be given.

    Raises:
        VmFailure: ``not_supported``, with the fields that ask for it.
    """
    present = {
        "desired_vcpus": config.cpus.boot_vcpus,
        "desired_ram": config.memory.size,
    }
    fields = [
        FieldError(f"/{name}", f"cannot be changed from {present[name]} while the VM is booted yet")
        for name, value in _given(request)
        if present.get(name, value) != value
    ]
    if fields:
        raise VmFailure(
            ErrorCode.NOT_SUPPORTED,
            "vm.resize: vCPUs and memory cannot be added to a booted VM yet; shut it down first",
            fields=tuple(fields),
        )


def _given(request: VmResize) -> Iterator[tuple[str, int]]:
    values = msgspec.structs.asdict(request).items()
    return ((name, value) for name, value in values if value is not None)


def _refusal(fields: list[FieldError]) -> VmFailure:
    return VmFailure(
        ErrorCode.INVALID_REQUEST,
        f"vm.resize does not fit the VM's configuration: {fields[0].message}",
        fields=tuple(fields),
    )
