# SPDX-License-Identifier: Apache-2.0
"""Which system calls this process may make: rules, filters, and the way into them.

The filters are the process's own, as the kernel sees it, so this module keeps them: every
`Vm` made after `enter` has its threads take those of their kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import count
from typing import Any, NamedTuple

from kvm_shim._native import ffi, lib
from kvm_shim.handle import checked

__all__ = ["Kind", "Mode", "Rule", "Seen", "Test", "enter", "entered", "program", "rules"]


class Mode(IntEnum):
    """What happens to a call that no rule allows."""

    KILL = lib.KVMSHIM_SECCOMP_KILL
    """It ends the process."""
    LOG = lib.KVMSHIM_SECCOMP_LOG
    """It is made, and the kernel logs it."""


class Kind(IntEnum):
    """A kind of thread."""

    CONTROL = lib.KVMSHIM_THREAD_CONTROL
    VCPU = lib.KVMSHIM_THREAD_VCPU
    LINE = lib.KVMSHIM_THREAD_LINE
    DISK = lib.KVMSHIM_THREAD_DISK
    DISK_POOL = lib.KVMSHIM_THREAD_DISK_POOL
    NET = lib.KVMSHIM_THREAD_NET
    VSOCK = lib.KVMSHIM_THREAD_VSOCK
    RNG = lib.KVMSHIM_THREAD_RNG
    BALLOON = lib.KVMSHIM_THREAD_BALLOON
    PMEM = lib.KVMSHIM_THREAD_PMEM
    WATCHDOG = lib.KVMSHIM_THREAD_WATCHDOG


class Seen(IntEnum):
    """When a rule is used."""

    ALWAYS = lib.KVMSHIM_SEEN_ALWAYS
    TAP = lib.KVMSHIM_SEEN_TAP
    VHOST = lib.KVMSHIM_SEEN_VHOST
    URING = lib.KVMSHIM_SEEN_URING
    LANDLOCK = lib.KVMSHIM_SEEN_LANDLOCK
    LINUX = lib.KVMSHIM_SEEN_LINUX
    RARELY = lib.KVMSHIM_SEEN_RARELY


class Test(NamedTuple):
    """Something an argument of the call has to meet."""

    argument: int
    mask: int
    value: int | None
    """What it is under the mask; ``None`` for the id of this process."""


class Rule(NamedTuple):
    """A system call that some kinds of thread may make."""

    call: str
    number: int
    tests: tuple[Test, ...]
    error: int
    """What it fails with, without being made; 0 when it is made."""
    kinds: frozenset[Kind]
    seen: Seen
    why: str


_entered: Any = None
"""The filters that hold for this process."""


def enter(mode: Mode) -> None:
    """Confine this process, all its threads, and those that it starts, for good.

    Raises:
        ShimError: The kernel refused; or it was done before.
    """
    global _entered  # noqa: PLW0603 - the filters are the process's
    filters = _create(mode)
    checked(lib.kvmshim_seccomp_enter, filters)
    _entered = filters


def entered() -> Any:
    """Return the filters that hold for this process, as the C core has them, or ``None``."""
    return _entered


def program(mode: Mode, kind: Kind) -> bytes:
    """Return the filter for a kind of thread: instructions of classic BPF."""
    instructions = ffi.new("uint32_t *")
    filters = _create(mode)
    code = lib.kvmshim_seccomp_program(filters, kind, instructions)
    return bytes(ffi.buffer(code, instructions[0] * 8))


def rules() -> Iterator[Rule]:
    """Give the rules, in the order of their table."""
    for index in count():
        rule = lib.kvmshim_seccomp_rule_at(index)
        if rule == ffi.NULL:
            return
        yield Rule(
            call=ffi.string(rule.call).decode(),
            number=rule.number,
            tests=tuple(
                Test(test.argument, test.mask, None if test.own_pid else test.value)
                for test in rule.tests
                if test.mask
            ),
            error=rule.error,
            kinds=frozenset(kind for kind in Kind if rule.kinds & 1 << kind),
            seen=Seen(rule.seen),
            why=ffi.string(rule.why).decode(),
        )


def _create(mode: Mode) -> Any:
    result = ffi.new("kvmshim_seccomp **")
    checked(lib.kvmshim_seccomp_create, int(mode), result)
    return ffi.gc(result[0], lib.kvmshim_seccomp_destroy)
