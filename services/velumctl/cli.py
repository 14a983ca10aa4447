# SPDX-License-Identifier: Apache-2.0
"""The one command with all its subcommands, and what they have in common."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import click

from ipc_protocol.names import RUNTIME_DIR
from ipc_protocol.version import BUILD_VERSION
from velumctl.api import Api

__all__ = ["LOCALHOST", "Command", "Target", "cli", "command", "pass_target"]

LOCALHOST: Final = "localhost"
"""The VM that is meant when none is named: the one of the server's configuration."""

_SENTENCE: Final = 200
"""Characters of a command's help that are its first sentence, not to be cut."""

SECTIONS: Final = {
    "Look": {
        "list": "list_vms",
        "info": "info",
        "counters": "info",
        "top": "top",
        "events": "events",
        "logs": "logs",
        "ping": "info",
    },
    "A VM's life": {
        "create": "create",
        "boot": "life",
        "pause": "life",
        "resume": "life",
        "power-button": "life",
        "nmi": "life",
        "reboot": "life",
        "shutdown": "life",
        "delete": "life",
        "shutdown-vmm": "life",
        "wait": "wait",
    },
    "Its console": {"console": "console"},
    "Its devices and its size": {
        "add-disk": "devices",
        "add-net": "devices",
        "add-pmem": "devices",
        "add-vsock": "devices",
        "add-fs": "devices",
        "add-vdpa": "devices",
        "add-device": "devices",
        "add-user-device": "devices",
        "add-generic-vhost-user": "devices",
        "remove-device": "devices",
        "resize": "resize",
        "resize-disk": "resize",
        "resize-zone": "resize",
    },
    "Its state elsewhere": {
        "snapshot": "transfer",
        "restore": "transfer",
        "coredump": "transfer",
        "send-migration": "transfer",
        "receive-migration": "transfer",
    },
    "Long work": {"jobs": "jobs", "cancel": "jobs"},
    "For your shell and editor": {"completion": "completion", "schema": "schema"},
}
"""The commands as the help shows them, each with the module of ``velumctl.commands``."""


@dataclass
class Target:
    """Whom a command speaks to: from the options, else from the environment."""

    socket: str = field(
        default_factory=lambda: os.environ.get("VELUM_API_SOCKET") or f"{RUNTIME_DIR}/api.sock"
    )
    vm: str = field(default_factory=lambda: os.environ.get("VELUM_VM") or LOCALHOST)
    timeout: float | None = None

    def api(self, vm: str | None = None) -> Api:
        """Return a new connection for the VM, or for another one."""
        return Api(self.socket, vm or self.vm, timeout=self.timeout)


pass_target = click.make_pass_decorator(Target, ensure=True)


def _complete_vm(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of the VMs that there are."""
    from velumctl.failures import Failure  # noqa: PLC0415 - beside the one place that fails softly

    try:
        with ctx.ensure_object(Target).api() as api:
            names = [each["name"] for each in api.get("vmm.list")]
    except Failure:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _common_options() -> list[click.Option]:
    """Make the options that stand before a command or behind it, whichever comes to mind."""

    def option(name: str, text: str, **more: Any) -> click.Option:
        key = name.removeprefix("--")

        def store(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
            if value is not None:
                setattr(ctx.ensure_object(Target), key, value)

        return click.Option([name], expose_value=False, callback=store, help=text, **more)

    return [
        option("--vm", "Which VM (VELUM_VM).", metavar="NAME", shell_complete=_complete_vm),
        option("--socket", "Where the API server listens (VELUM_API_SOCKET).", metavar="PATH"),
        option(
            "--timeout",
            "Seconds to wait for each answer of the server (default: as long as it takes).",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
        ),
    ]


class Command(click.Command):
    """A command that takes the common options too."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params = [*self.params, *_common_options()]


def command(name: str, **more: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, whose docstring is its help."""
    return click.command(name, cls=Command, **more)


class _Commands(click.Group):
    """Loads the module of a command when it is called, and shows them in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name, in the order of the help."""
        del ctx
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        del ctx
        for section in SECTIONS.values():
            if module := section.get(cmd_name):
                commands = importlib.import_module(f"velumctl.commands.{module}").COMMANDS
                found: dict[str, click.Command] = {each.name: each for each in commands}
                return found[cmd_name]
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        width = max(map(len, self.list_commands(ctx)))
        for title, section in SECTIONS.items():
            rows = []
            for name in section:
                each = self.get_command(ctx, name)
                text = each.get_short_help_str(limit=_SENTENCE) if each else ""
                rows.append((name.ljust(width), text))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    "velumctl",
    cls=_Commands,
    params=list(_common_options()),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(BUILD_VERSION, prog_name="velumctl", message="%(prog)s %(version)s")
def cli() -> None:
    """Control the virtual machines of this host."""
