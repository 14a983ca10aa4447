# SPDX-License-Identifier: Apache-2.0
"""``create``: from a file or from options to a VM."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import click

from ipc_protocol.options_vm import DEVICES, MACHINE, VmOption, make_config
from velumctl.cli import Command, Target
from velumctl.display import printable
from velumctl.documents import Document, Format, from_options, read
from velumctl.parameters import Value
from velumctl.work import carry_out

__all__ = ["COMMANDS"]

_HELP: Final = """Create a VM from a file, or from options as cloud-hypervisor has them.

Creating checks the configuration and stores it; nothing runs before `boot`.
--disk, --net, --pmem and --rate-limit-group may be given more than once. Each device
but the serial port takes id=ID and pci_device_id=1..31 too.
"""


def _option(option: VmOption) -> click.Option:
    names = [option.name, option.field]
    if option.read is None:
        return click.Option(names, is_flag=True, default=None, help=option.help)
    return click.Option(
        names,
        type=Value(option.name, option.read),
        metavar=option.metavar,
        multiple=option.many,
        help=option.help,
    )


def _create(
    *,
    path: str | None,
    form: str | None,
    dry_run: bool,
    lenient: bool,
    boot: bool,
    **options: Any,
) -> None:
    # An option that may be given often comes as a tuple, which is empty when it was not.
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if (path is None) == (not given):
        raise click.UsageError("give either --from FILE or options such as --kernel and --disk")
    if dry_run and boot:
        raise click.UsageError("--dry-run creates nothing that --boot could boot")
    document = _document(path, form, given)
    queries = ["dry_run=true"] * dry_run + ["compat=lenient"] * lenient
    name = f"vm.create?{'&'.join(queries)}" if queries else "vm.create"
    with click.get_current_context().ensure_object(Target).api() as api:
        answer = api.put(name, document)
        if ignored := answer.headers.get("X-Velum-Ignored"):
            click.echo(f"ignored: {printable(unquote(ignored))}", err=True)
        if boot:
            carry_out(api, "vm.boot", blamed=document.source)


def _document(path: str | None, form: str | None, given: dict[str, Any]) -> Document:
    if path is not None:
        return read(path, Format(form) if form else None)
    return from_options(make_config(given))


COMMANDS: Final = (
    Command(
        "create",
        callback=_create,
        help=_HELP,
        params=[
            click.Option(
                ["--from", "path"],
                metavar="FILE",
                type=click.Path(allow_dash=True),
                help="The configuration: .json, .yaml or .toml; - is standard input.",
            ),
            click.Option(
                ["--format", "form"],
                type=click.Choice([form.value for form in Format]),
                help="What the file is, where its suffix does not say.",
            ),
            click.Option(["--dry-run"], is_flag=True, help="Only check, and create nothing."),
            click.Option(
                ["--lenient"], is_flag=True, help="Pass over fields that Velum does not know."
            ),
            click.Option(["--boot"], is_flag=True, help="Boot it too."),
            *map(_option, (*MACHINE, *DEVICES)),
        ],
    ),
)
