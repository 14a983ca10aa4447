# SPDX-License-Identifier: Apache-2.0
"""``info``, ``counters`` and ``ping``: what one VM is and does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from velumctl.cli import Target, command, pass_target
from velumctl.display import as_json, bytes_text, json_option, table

__all__ = ["COMMANDS"]


@command("info")
@json_option
@pass_target
def info(target: Target, *, as_document: bool) -> None:
    """Show a VM's configuration and state."""
    with target.api() as api:
        document = api.get("vm.info")
    if as_document:
        as_json(document)
        return
    table(None, _facts(document))
    devices = list(_devices(document["config"]))
    if devices:
        click.echo()
        table(("DEVICE", "KIND", "WHAT"), devices)


@command("counters")
@json_option
@pass_target
def counters(target: Target, *, as_document: bool) -> None:
    """Show what each device has counted since the VM was booted."""
    with target.api() as api:
        document = api.get("vm.counters")
    if as_document:
        as_json(document)
        return
    rows = (
        (device, name, str(value))
        for device, all_of_it in sorted(document.items())
        for name, value in all_of_it.items()
    )
    table(("DEVICE", "COUNTER", "VALUE"), rows, right=(2,))


@command("ping")
@json_option
@pass_target
def ping(target: Target, *, as_document: bool) -> None:
    """Ask the VM's worker whether it is there."""
    with target.api() as api:
        document = api.get("vmm.ping")
    if as_document:
        as_json(document)
    else:
        click.echo(f"{document['build_version']} with pid {document['pid']}")


def _facts(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to say about a VM, one line each."""
    config = info["config"]
    cpus, payload = config["cpus"], config["payload"]
    yield "state", info["state"]
    yield "boots", str(info.get("boots", 0))
    more = f", up to {cpus['max_vcpus']}" if cpus["max_vcpus"] != cpus["boot_vcpus"] else ""
    yield "vCPUs", f"{cpus['boot_vcpus']}{more}"
    yield "memory", bytes_text(info["memory_actual_size"])
    for name in ("kernel", "initramfs", "firmware", "cmdline"):
        if payload.get(name):
            yield name, payload[name]
    for name in ("serial", "console"):
        yield name, terminal(config.get(name, {}))
    for name, what in (("last_stop", "last stop"), ("last_panic", "last panic")):
        if stop := info.get(name):
            yield what, _stop(stop)


def terminal(config: Mapping[str, Any]) -> str:
    """Say where a serial port or a console goes."""
    where = config.get("file") or config.get("socket") or ""
    return f"{config.get('mode', 'Off')} {where}".rstrip()


def _stop(stop: Mapping[str, Any]) -> str:
    when = datetime.fromtimestamp(stop["time"], UTC).astimezone().isoformat(" ", "seconds")
    detail = f" ({stop['detail']})" if stop.get("detail") else ""
    return f"{stop['reason']} by {stop['source']} at {when}{detail}"


def _devices(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for kind, (field, name) in _KINDS.items():
        given = config.get(field) or []
        for device in given if isinstance(given, list) else [given]:
            yield device.get("id", ""), kind, str(device.get(name) or "")


_KINDS: Final = {
    "disk": ("disks", "path"),
    "net": ("net", "tap"),
    "pmem": ("pmem", "file"),
    "fs": ("fs", "tag"),
    "vsock": ("vsock", "socket"),
    "vdpa": ("vdpa", "path"),
    "vfio": ("devices", "path"),
    "rng": ("rng", "src"),
    "balloon": ("balloon", "size"),
}
"""The kinds of devices: the field of the configuration, and what of a device says most."""

COMMANDS: Final = (info, counters, ping)
