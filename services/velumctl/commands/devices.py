# SPDX-License-Identifier: Apache-2.0
"""``add-*`` and ``remove-device``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import click

from ipc_protocol import options_devices as known
from ipc_protocol.options import OptionError, Options
from velumctl.cli import Command, Target, command, pass_target
from velumctl.display import as_json
from velumctl.documents import Document
from velumctl.failures import Failure
from velumctl.parameters import Parameters, reader

__all__ = ["COMMANDS"]


def _numbers(options: Options, key: str) -> list[int] | None:
    """Read a list such as ``[64,128]``."""
    text = options.text(key)
    if text is None:
        return None
    inside = re.fullmatch(r"\[([0-9]{1,9}(?:,[0-9]{1,9})*)\]", text)
    if inside is None:
        raise OptionError(f"{key}={text}: expected numbers such as [64,128]")
    return [int(each) for each in inside[1].split(",")]


class _Addition(NamedTuple):
    kind: str
    read: Callable[[str], Any]
    metavar: str
    help: str


_PCI: Final = {
    "id": Options.text,
    "pci_segment": Options.integer,
    "pci_device_id": Options.integer,
    "iommu": Options.toggle,
}
_FS: Final = {
    "tag": Options.text,
    "socket": Options.text,
    "num_queues": Options.integer,
    "queue_size": Options.integer,
    **_PCI,
}
_VHOST_USER: Final = {
    "socket": Options.text,
    "queue_sizes": _numbers,
    "device_type": Options.integer,
    **_PCI,
}

_ADDITIONS: Final = (
    _Addition("disk", known.parse_disk, "path=FILE[,readonly=on,...]", "Add a disk."),
    _Addition("net", known.parse_net, "tap=NAME[,mac=M,...]", "Add a network interface."),
    _Addition("pmem", known.parse_pmem, "file=FILE[,size=N]", "Add persistent memory."),
    _Addition("vsock", known.parse_vsock, "cid=N,socket=PATH", "Add sockets to the host."),
    _Addition("fs", reader(_FS), "tag=TAG,socket=PATH", "Add a directory shared by virtiofsd."),
    _Addition(
        "vdpa",
        reader({"path": Options.text, "num_queues": Options.integer, **_PCI}),
        "path=DEVICE",
        "Add a vDPA device.",
    ),
    _Addition(
        "device", reader({"path": Options.text, **_PCI}), "path=DEVICE", "Add a device of the host."
    ),
    _Addition(
        "user-device",
        reader({"socket": Options.text, **_PCI}),
        "socket=PATH",
        "Add a device of another process, by vfio-user.",
    ),
    _Addition(
        "generic-vhost-user",
        reader(_VHOST_USER),
        "socket=PATH,device_type=N,queue_sizes=[N,...]",
        "Add a device of another process, by vhost-user.",
    ),
)


def _command(addition: _Addition) -> click.Command:
    def add(*, parameters: Document) -> None:
        with click.get_current_context().ensure_object(Target).api() as api:
            answer = api.put(f"vm.add-{addition.kind}", parameters)
        if answer.body:
            # Where the device was plugged into the running VM.
            as_json(answer.document())

    argument = click.Argument(
        ["parameters"],
        type=Parameters(addition.metavar, addition.read),
        metavar=addition.metavar,
    )
    return Command(f"add-{addition.kind}", callback=add, params=[argument], help=addition.help)


def _complete_device(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the ids of the VM's devices."""
    try:
        with ctx.ensure_object(Target).api() as api:
            config = api.get("vm.info")["config"]
    except Failure:
        return []
    lists = (value if isinstance(value, list) else [value] for value in config.values())
    devices = (each for devices in lists for each in devices if isinstance(each, dict))
    return [name for each in devices if (name := each.get("id", "")).startswith(incomplete)]


@command("remove-device")
@click.argument("device", metavar="ID", shell_complete=_complete_device)
@pass_target
def remove_device(target: Target, *, device: str) -> None:
    """Take a device away, by the id that `info` shows."""
    with target.api() as api:
        api.put("vm.remove-device", {"id": device})


COMMANDS: Final = (*map(_command, _ADDITIONS), remove_device)
