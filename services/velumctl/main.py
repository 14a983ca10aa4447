# SPDX-License-Identifier: Apache-2.0
"""``velumctl``: from its arguments to its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from velumctl.cli import cli
from velumctl.failures import ExitCode, Failure
from velumctl.report import tell

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Run the command that the process was started with, and exit."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: Its arguments; those of the process when ``None``.
    """
    try:
        return int(cli.main(arguments, "velumctl", standalone_mode=False) or ExitCode.DONE)
    except Failure as ex:
        tell(ex)
        return ex.exit_code
    except click.ClickException as ex:
        ex.show()
        return ex.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
