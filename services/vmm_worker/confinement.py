# SPDX-License-Identifier: Apache-2.0
"""What the process gives up before a guest runs in it: system calls that it does not need."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Final

from ipc_protocol.errors import ErrorCode, VmFailure
from kvm_shim import ShimError, seccomp
from vmm_worker.command_line import SeccompMode

__all__ = ["confine"]

_log = logging.getLogger(__name__)

_MACHINE_CODE: Final = ("resource", "termios")
"""Extension modules that parts of the worker import later, when no code can be mapped."""


def confine(mode: SeccompMode) -> None:
    """Confine the process to the system calls of its rules, for good.

    Args:
        mode: What happens to other calls: the process is killed, or they are logged.

    Raises:
        VmFailure: ``host_resource`` when the kernel refuses.
    """
    if mode is SeccompMode.FALSE:
        _log.warning("seccomp is off: the worker can make any system call")
        return
    # What is imported later is not to be compiled into a new folder.
    sys.dont_write_bytecode = True
    for name in _MACHINE_CODE:
        import_module(name)
    try:
        seccomp.enter(seccomp.Mode.LOG if mode is SeccompMode.LOG else seccomp.Mode.KILL)
    except ShimError as ex:
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            "the worker cannot be confined by seccomp; --seccomp false runs it without",
            causes=(ex.context,),
        ) from ex
    if mode is SeccompMode.LOG:
        _log.warning("seccomp only logs: the kernel's log has each call that would be refused")
    else:
        _log.info("seccomp: a system call that no rule allows ends the worker by SIGSYS")
