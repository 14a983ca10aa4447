# SPDX-License-Identifier: Apache-2.0
"""``resize``, ``resize-disk`` and ``resize-zone``."""

from __future__ import annotations

from typing import Final

import click

from velumctl.cli import Target, command, pass_target
from velumctl.parameters import SIZE

__all__ = ["COMMANDS"]


@command("resize")
@click.option("--cpus", type=int, metavar="N", help="How many vCPUs.")
@click.option("--memory", type=SIZE, metavar="N[K|M|G]", help="How much RAM.")
@click.option("--balloon", type=SIZE, metavar="N[K|M|G]", help="How much of it is taken back.")
@pass_target
def resize(target: Target, *, cpus: int | None, memory: int | None, balloon: int | None) -> None:
    """Change how many vCPUs and how much memory the VM has."""
    wanted = {"desired_vcpus": cpus, "desired_ram": memory, "desired_balloon": balloon}
    body = {name: value for name, value in wanted.items() if value is not None}
    if not body:
        raise click.UsageError("give at least one of --cpus, --memory and --balloon")
    with target.api() as api:
        api.put("vm.resize", body)


@command("resize-disk")
@click.option("--disk", metavar="ID", required=True, help="Which disk, as `info` shows it.")
@click.option("--size", type=SIZE, metavar="N[K|M|G]", required=True, help="Its new size.")
@pass_target
def resize_disk(target: Target, *, disk: str, size: int) -> None:
    """Change the size of a disk."""
    with target.api() as api:
        api.put("vm.resize-disk", {"id": disk, "desired_size": size})


@command("resize-zone")
@click.option("--id", "zone", metavar="ID", required=True, help="Which memory zone.")
@click.option("--size", type=SIZE, metavar="N[K|M|G]", required=True, help="Its new size.")
@pass_target
def resize_zone(target: Target, *, zone: str, size: int) -> None:
    """Change the size of a memory zone."""
    with target.api() as api:
        api.put("vm.resize-zone", {"id": zone, "desired_ram": size})


COMMANDS: Final = (resize, resize_disk, resize_zone)
