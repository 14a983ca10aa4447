# SPDX-License-Identifier: Apache-2.0
"""``logs``: what the VM's worker has logged."""

from __future__ import annotations

import os
from typing import Final, NoReturn

import click

from velumctl.cli import LOCALHOST, Target, command, pass_target
from velumctl.failures import ExitCode, Failure

__all__ = ["COMMANDS"]

_UNIT: Final = "velum-vmm@{vm}.service"


@command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@click.option("-n", "--lines", default=100, show_default=True, metavar="N", help="The last N.")
@click.option("--file", "path", metavar="FILE", help="Where its log is, if not in the journal.")
@click.option("--unit", metavar="UNIT", help=f"Its unit (default: {_UNIT.format(vm='NAME')}).")
@pass_target
def logs(
    target: Target, *, follow: bool, lines: int, path: str | None, unit: str | None
) -> NoReturn:
    """Show the log of the VM's worker, from the journal or from a file."""
    if path is not None:
        if unit is not None:
            raise click.UsageError("--file and --unit are two places: give one")
        # -F, as a log that is rotated has another file by the same name.
        _become(["tail", "-n", str(lines), *(["-F"] if follow else []), "--", path])
    if unit is None:
        if target.vm == LOCALHOST:
            raise click.UsageError("which VM? give --vm NAME, --unit UNIT or --file FILE")
        unit = _UNIT.format(vm=target.vm)
    _become(["journalctl", f"--unit={unit}", f"--lines={lines}", *(["--follow"] * follow)])


def _become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as ex:
        message = f"{command[0]} cannot be run: {ex.strerror}"
        raise Failure(ExitCode.FAILED, message, "--file says where else the log is") from ex


COMMANDS: Final = (logs,)
