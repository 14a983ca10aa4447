# SPDX-License-Identifier: Apache-2.0
"""The operations that take nothing and give nothing: boot, pause, delete and their like."""

from __future__ import annotations

from typing import Final, NamedTuple

import click

from velumctl.cli import Command, Target
from velumctl.work import carry_out, detach_option

__all__ = ["COMMANDS"]


class _Verb(NamedTuple):
    name: str
    operation: str
    help: str
    long: bool = False
    """Whether it may take so long that its progress is of interest."""


_VERBS: Final = (
    _Verb("boot", "vm.boot", "Start the VM that was created.", long=True),
    _Verb("pause", "vm.pause", "Stop the vCPUs; nothing in the guest moves on."),
    _Verb("resume", "vm.resume", "Let the vCPUs of a paused VM go on."),
    _Verb("power-button", "vm.power-button", "Press the button: the guest powers itself off."),
    _Verb("nmi", "vm.nmi", "Interrupt every vCPU with an NMI, for a dump or a debugger."),
    _Verb("reboot", "vm.reboot", "Reset the machine, as its reset button does.", long=True),
    _Verb("shutdown", "vm.shutdown", "Switch the machine off at once; its configuration stays."),
    _Verb("delete", "vm.delete", "Switch the machine off and forget its configuration."),
    _Verb("shutdown-vmm", "vmm.shutdown", "End the VM and the worker that ran it."),
)


def _command(verb: _Verb) -> click.Command:
    def carry_out_plainly() -> None:
        with click.get_current_context().ensure_object(Target).api() as api:
            api.put(verb.operation)

    def carry_out_as_job(*, detach: bool) -> None:
        with click.get_current_context().ensure_object(Target).api() as api:
            carry_out(api, verb.operation, detach=detach)

    return Command(
        verb.name,
        callback=carry_out_as_job if verb.long else carry_out_plainly,
        params=[detach_option()] if verb.long else [],
        help=verb.help,
    )


COMMANDS: Final = tuple(map(_command, _VERBS))
