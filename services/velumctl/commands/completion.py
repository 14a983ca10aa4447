# SPDX-License-Identifier: Apache-2.0
"""``completion``: what a shell loads to complete commands, options, VMs and devices."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from velumctl.cli import cli, command
from velumctl.failures import ExitCode, Failure

__all__ = ["COMMANDS"]

_SHELLS: Final = ("bash", "zsh", "fish")


@command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(*, shell: str) -> None:
    """Print what makes a shell complete velumctl's arguments."""
    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(ExitCode.FAILED, f"the installed click has no completion for {shell}")
    click.echo(kind(cli, {}, "velumctl", "_VELUMCTL_COMPLETE").source())


COMMANDS: Final = (completion,)
