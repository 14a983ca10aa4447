# SPDX-License-Identifier: Apache-2.0
"""Snapshots, dumps and migrations."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import click

from ipc_protocol.options import Options
from velumctl.cli import Command, Target
from velumctl.documents import Document
from velumctl.parameters import Parameters, reader
from velumctl.work import carry_out, detach_option

__all__ = ["COMMANDS"]


def _destination(text: str) -> dict[str, str]:
    return {"destination_url": text}


_RESTORE: Final = {
    "source_url": Options.text,
    "prefault": Options.toggle,
    "resume": Options.toggle,
    "memory_restore_mode": Options.text,
}
_SEND: Final = {
    "destination_url": Options.text,
    "local": Options.toggle,
    "preserve_source": Options.toggle,
    "downtime_ms": Options.integer,
    "timeout_s": Options.integer,
    "timeout_strategy": Options.text,
    "connections": Options.integer,
    "memory_mode": Options.text,
    "tls_dir": Options.text,
}
_RECEIVE: Final = {
    "receiver_url": Options.text,
    "memory_mode": Options.text,
    "tls_dir": Options.text,
}


class _Transfer(NamedTuple):
    name: str
    read: Any
    metavar: str
    help: str


_TRANSFERS: Final = (
    _Transfer("snapshot", _destination, "file:///DIR", "Save a paused VM."),
    _Transfer(
        "restore",
        reader(_RESTORE),
        "source_url=file:///DIR[,resume=on]",
        "Make a VM of what `snapshot` saved.",
    ),
    _Transfer("coredump", _destination, "file:///FILE", "Save the guest's memory for a debugger."),
    _Transfer(
        "send-migration",
        reader(_SEND),
        "destination_url=tcp:HOST:PORT[,...]",
        "Move a running VM to a worker that waits for it.",
    ),
    _Transfer(
        "receive-migration",
        reader(_RECEIVE),
        "receiver_url=tcp:HOST:PORT[,...]",
        "Wait for a VM that another worker sends.",
    ),
)


def _command(transfer: _Transfer) -> click.Command:
    def run(*, parameters: Document, detach: bool) -> None:
        with click.get_current_context().ensure_object(Target).api() as api:
            carry_out(api, f"vm.{transfer.name}", parameters, detach=detach)

    argument = click.Argument(
        ["parameters"],
        type=Parameters(transfer.metavar, transfer.read),
        metavar=transfer.metavar,
    )
    params: list[click.Parameter] = [argument, detach_option()]
    return Command(transfer.name, callback=run, params=params, help=transfer.help)


COMMANDS: Final = tuple(map(_command, _TRANSFERS))
