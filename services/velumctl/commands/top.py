# SPDX-License-Identifier: Apache-2.0
"""``top``: what each VM is busy with, live."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import click
from rich.live import Live
from rich.table import Table

from ipc_protocol.messages import VmState
from velumctl.cli import LOCALHOST, Target, command, pass_target
from velumctl.display import bytes_text, console, make_table
from velumctl.failures import Failure

__all__ = ["COMMANDS"]

Counters: TypeAlias = Mapping[str, Mapping[str, int]]

_HEADER: Final = (
    *("NAME", "STATE", "VCPUS", "CPU %", "MEMORY", "EXITS/s"),
    *("READ/s", "WRITTEN/s", "RECEIVED/s", "SENT/s"),
)
_BUILT: Final = (VmState.RUNNING, VmState.PAUSED)
_MICROSECONDS: Final = 1e6


class _Sample(NamedTuple):
    """What a VM had done up to a time."""

    time: float
    cpu: float
    """Seconds of all its vCPUs."""
    exits: int
    read: int
    written: int
    received: int
    sent: int


class _Vm(NamedTuple):
    name: str
    state: str
    vcpus: int = 0
    memory: int = 0
    sample: _Sample | None = None


@command("top")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is looked at.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many looks.")
@pass_target
def top(target: Target, *, interval: float, count: int | None) -> None:
    """Show what the VMs do, until Ctrl-C; all of them, or the one of --vm."""
    out = console()
    turns = itertools.count(1) if count is None else range(1, count + 1)
    # Ctrl-C is how one leaves, and nothing went wrong.
    with contextlib.suppress(KeyboardInterrupt):
        if not out.is_terminal:
            _look(target, interval, turns, out.print)
            return
        with Live(console=out, auto_refresh=False, screen=count is None) as live:
            _look(target, interval, turns, lambda made: live.update(made, refresh=True))


def _look(
    target: Target, interval: float, turns: Iterable[int], show: Callable[[Table], None]
) -> None:
    before: dict[str, _Sample] = {}
    for turn in turns:
        if turn > 1:
            time.sleep(interval)
        vms = list(_vms(target))
        rows = [_row(vm, before.get(vm.name)) for vm in vms]
        show(make_table(_HEADER, rows, right=range(2, len(_HEADER))))
        before = {vm.name: vm.sample for vm in vms if vm.sample}


def _vms(target: Target) -> Iterator[_Vm]:
    names = {target.vm: ""}
    if target.vm == LOCALHOST:
        with target.api() as api:
            names = {each["name"]: each["state"] for each in api.get("vmm.list")}
    for name, state in names.items():
        # One that does not answer would keep the others from being shown.
        if state and state not in _BUILT:
            yield _Vm(name, state)
            continue
        try:
            with target.api(name) as api:
                info, counters = api.get("vm.info"), api.get("vm.counters")
        except Failure as ex:
            yield _Vm(name, str(ex))
            continue
        vcpus = info["config"]["cpus"]["boot_vcpus"]
        yield _Vm(name, info["state"], vcpus, info["memory_actual_size"], _sample(counters))


def _sample(counters: Counters) -> _Sample:
    def total(name: str) -> int:
        return sum(device.get(name, 0) for device in counters.values())

    exits = sum(
        value
        for device in counters.values()
        for name, value in device.items()
        if name.startswith("exits_")
    )
    return _Sample(
        time=time.monotonic(),
        cpu=total("cpu_us") / _MICROSECONDS,
        exits=exits,
        read=total("read_bytes"),
        written=total("write_bytes"),
        received=total("rx_bytes"),
        sent=total("tx_bytes"),
    )


def _row(vm: _Vm, before: _Sample | None) -> tuple[str, ...]:
    if vm.sample is None:
        return (vm.name, vm.state, *[""] * (len(_HEADER) - 2))
    size = (vm.name, vm.state, str(vm.vcpus))
    memory = bytes_text(vm.memory)
    # Counters begin anew when a VM is booted again; what it did since is not known then.
    if before is None or any(now < then for now, then in zip(vm.sample, before, strict=True)):
        return (*size, "", memory, *[""] * 5)
    seconds = vm.sample.time - before.time
    _, cpu, exits, *moved = (
        (now - then) / seconds for now, then in zip(vm.sample, before, strict=True)
    )
    return (*size, f"{cpu:.0%}", memory, f"{exits:.0f}", *map(bytes_text, moved))


COMMANDS: Final = (top,)
