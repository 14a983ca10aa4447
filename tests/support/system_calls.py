# SPDX-License-Identifier: Apache-2.0
"""What system calls a confined worker makes, as strace sees them, beside the rules for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from kvm_shim.seccomp import Kind, Rule, rules

__all__ = ["Call", "Use", "allows", "calls", "tracer", "use_of"]

_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>[^()]*?)(?P<rest>[)<].*)")
_RESUMED: Final = re.compile(
    r"(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>.* = (?P<result>0x[0-9a-f]+)"
)
_RESULT: Final = re.compile(r"\) += (0x[0-9a-f]+)")
_NAME: Final = re.compile(r"0xf /\* PR_SET_NAME \*/, \"(?P<name>.*)\"")
_MODE_FILTER: Final = "0x1"
_TSYNC: Final = "0x1"
_NOTHING: Final = "0"
"""Without a filter libseccomp asks what the kernel knows."""

_KINDS: Final = (
    (re.compile(r"vcpu\d+"), Kind.VCPU),
    (re.compile(r"(serial|console)-io"), Kind.LINE),
    (re.compile(r"vsock-io"), Kind.VSOCK),
    (re.compile(r"rng"), Kind.RNG),
    (re.compile(r"balloon"), Kind.BALLOON),
    (re.compile(r"pmem"), Kind.PMEM),
    (re.compile(r"watchdog-io"), Kind.WATCHDOG),
    (re.compile(r".*-q\d+"), Kind.DISK),
    (re.compile(r".*-\d+"), Kind.NET),
)
"""What the shim calls its threads."""


class Call(NamedTuple):
    """A system call of a confined thread."""

    kind: Kind
    name: str
    arguments: tuple[int, ...]
    process: int


@dataclass
class Use:
    """What a run made of the rules."""

    used: set[tuple[int, Kind]] = field(default_factory=set)
    """A rule's place in the table, and the kind of thread that needed it."""
    missing: set[tuple[Kind, str, tuple[str, ...]]] = field(default_factory=set)
    """What no rule covers."""


@dataclass
class _Thread:
    name: str = ""
    parent: str = ""
    confined: bool = False


def tracer(output: Path) -> tuple[str, ...]:
    """Return the command that runs another and writes down its system calls.

    The process keeps its id and its parent; the arguments are written as they are but for
    prctl's, which have the names of threads.
    """
    options = ("-f", "-D", "-qq", "-X", "verbose", "-e", "raw=!prctl", "-e", "signal=none")
    return ("strace", *options, "-o", str(output))


def calls(trace: Path) -> Iterator[Call]:
    """Give the calls that the process's threads made from the moment it was confined."""
    threads: dict[int, _Thread] = {}
    process = 0
    confined = False
    for line in trace.read_text(errors="replace").splitlines():
        resumed = _RESUMED.match(line)
        if resumed is not None:
            if resumed["call"] in {"clone", "clone3"}:
                _born(threads, int(resumed["thread"]), int(resumed["result"], 0))
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        number = int(match["thread"])
        process = process or number
        thread = threads.setdefault(number, _Thread())
        name, arguments = match["call"], match["arguments"].strip().split(", ")
        if name == "prctl":
            if named := _NAME.match(match["arguments"]):
                thread.name = named["name"]
            arguments = [arguments[0].split(" ")[0]]
        if confined:
            values = tuple(int(each, 0) for each in arguments if each)
            yield Call(_kind(thread), name, values, process)
        if name == "seccomp" and arguments[0] == _MODE_FILTER and arguments[2] != _NOTHING:
            confined = confined or arguments[1] == _TSYNC
            thread.confined = arguments[1] != _TSYNC
        elif name in {"clone", "clone3"} and (result := _RESULT.match(match["rest"])):
            _born(threads, number, int(result[1], 0))


def allows(rule: Rule, call: Call) -> bool:
    """Tell whether a rule covers a call."""
    return rule.call == call.name and all(
        (call.arguments[test.argument] & test.mask)
        == (call.process if test.value is None else test.value)
        for test in rule.tests
    )


def use_of(traces: list[Path]) -> Use:
    """Compare what was traced with the rules."""
    table = list(rules())
    seen = {call for trace in traces for call in calls(trace)}
    use = Use()
    for call in seen:
        found = [
            place
            for place, rule in enumerate(table)
            if call.kind in rule.kinds and allows(rule, call)
        ]
        use.used.update((place, call.kind) for place in found)
        if not found:
            use.missing.add((call.kind, call.name, tuple(map(hex, call.arguments[:3]))))
    return use


def _born(threads: dict[int, _Thread], parent: int, child: int) -> None:
    threads.setdefault(child, _Thread()).parent = threads[parent].name


def _kind(thread: _Thread) -> Kind:
    if not thread.confined:
        return Kind.CONTROL
    if thread.name == thread.parent:
        return Kind.DISK_POOL  # A disk's queue gives its helpers its own name.
    return next(kind for pattern, kind in _KINDS if pattern.fullmatch(thread.name))
