# SPDX-License-Identifier: Apache-2.0
"""``velum-vmm``: own one VM until told to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.names import vm_of
from ipc_protocol.server import Server
from vmm_worker import command_line, log
from vmm_worker.command_line import Settings
from vmm_worker.confinement import confine
from vmm_worker.control_loop import ControlLoop
from vmm_worker.devices.terminal import OwnTerminal
from vmm_worker.first_vm import FirstVm, Wish
from vmm_worker.landlock import Landlock, landlocked_context
from vmm_worker.monitor import Monitor
from vmm_worker.process import allow_descriptors
from vmm_worker.signals import Signals
from vmm_worker.supervision import Supervision
from vmm_worker.vmm import Vmm

__all__ = ["main"]

_log = logging.getLogger(__name__)

_SWITCH_INTERVAL: Final = 0.0005
"""Seconds; see :func:`main`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker and return its exit status."""
    settings = command_line.read(arguments)
    log.set_up(settings.log_level)
    allow_descriptors()
    # The loop answers reads while the operations thread runs Python of its own; it must
    # not wait the default 5 ms for the interpreter each time.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        wish = _wish(settings)
    except VmFailure as ex:
        _complain(ex.error)
        return 2  # As for a wrong command line: to start again will not help.
    try:
        with Signals() as signals:
            return _serve(settings, wish, signals)
    except VmFailure as ex:
        _complain(ex.error)
        return 1


def _wish(settings: Settings) -> Wish | None:
    """Return the VM to start with, if there is one, and prepare what its file asks for."""
    if settings.file is None:
        return None if settings.config is None else Wish(settings.config)
    from vmm_worker.vm_file import open_console, read_vm_file  # noqa: PLC0415 - if there is one

    file = read_vm_file(settings.file)
    if file is None:
        return None
    open_console(file.host)
    return Wish(file.config, boot=file.host.autostart, boot_again=file.host.restart)


def _serve(settings: Settings, wish: Wish | None, signals: Signals) -> int:
    # Before there is a thread: what is begun here opens no file, whatever the VM will need.
    context = landlocked_context()
    with (
        _place(settings),
        Server(settings.ipc, peers=settings.peers, context=context) as server,
        Landlock(kvm=settings.kvm, ipc=settings.ipc) as landlock,
    ):
        monitor = Monitor()
        monitor.tell("vmm", "starting")
        vmm = Vmm(kvm=settings.kvm, monitor=monitor, landlock=landlock, expected=wish is not None)
        supervision = Supervision(vm_of(settings.ipc), settings.shutdown_timeout)
        loop = ControlLoop(
            server,
            vmm,
            signals,
            monitor,
            supervision,
            landlock=landlock,
            event_target=settings.event_target,
            shutdown_timeout=settings.shutdown_timeout,
            exit_with_guest=settings.exit_with_guest,
        )
        _log.info("listening at %s", settings.ipc)
        first = None if wish is None else FirstVm(settings.ipc, wish, supervision.ready)
        confine(settings.seccomp)
        try:
            if first is None:
                supervision.ready()
            else:
                first.start()
            status = loop.run()
        finally:
            if first is not None:
                first.forget()
            if not loop.close():
                _leave(server, settings)
    if first is not None:
        first.join()
        if first.error is not None and first.error.code is not ErrorCode.VMM_UNAVAILABLE:
            _complain(first.error)
            return 1
    return status


def _leave(server: Server, settings: Settings) -> None:
    """End the process although a thread is stuck, and leave nothing behind."""
    OwnTerminal.restore_modes()
    server.close()
    _remove_place(settings)
    logging.shutdown()
    os._exit(1)


@contextlib.contextmanager
def _place(settings: Settings) -> Iterator[None]:
    """Have a folder for this worker's socket in the runtime directory, while it lives."""
    if settings.runtime_dir is None:
        yield
        return
    _make_folder(settings.runtime_dir, 0o750)
    _make_folder(settings.ipc.parent, 0o710)
    try:
        yield
    finally:
        _remove_place(settings)


def _remove_place(settings: Settings) -> None:
    """Remove the worker's folder, unless somebody keeps something in it or it is not ours."""
    if settings.runtime_dir is not None:
        with contextlib.suppress(OSError):
            settings.ipc.parent.rmdir()


def _make_folder(path: Path, mode: int) -> None:
    """Make a folder for sockets unless it is there; its parent has to be there."""
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except OSError as ex:
        raise VmFailure.of_host(f"the runtime directory {path} cannot be made", ex) from ex


def _complain(error: VmError) -> None:
    """Say on stderr why the worker cannot go on: one line, and one for each field."""
    causes = (each for each in error.causes if each not in error.message)
    lines = [": ".join(("velum-vmm", error.message, *causes))]
    lines += [f"  {field.pointer or '/'}: {field.message}" for field in error.fields]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
