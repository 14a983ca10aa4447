# SPDX-License-Identifier: Apache-2.0
"""``list``: every VM of this host."""

from __future__ import annotations

from typing import Final

from velumctl.cli import Target, command, pass_target
from velumctl.display import as_json, json_option, table

__all__ = ["COMMANDS"]


@command("list")
@json_option
@pass_target
def list_vms(target: Target, *, as_document: bool) -> None:
    """Show the VMs of this host and their states."""
    with target.api() as api:
        document = api.get("vmm.list")
    if as_document:
        as_json(document)
        return
    rows = ((each["name"], each["state"], str(each.get("pid", ""))) for each in document)
    table(("NAME", "STATE", "PID"), rows, right=(2,))


COMMANDS: Final = (list_vms,)
