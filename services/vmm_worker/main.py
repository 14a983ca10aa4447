# SPDX-License-Identifier: Apache-2.0
"""``velum-vmm``: own one VM until told to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ipc_protocol.client import Client
from ipc_protocol.config import VmConfig
from ipc_protocol.context import Context
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.server import Server
from vmm_worker import command_line, log
from vmm_worker.command_line import Settings
from vmm_worker.control_loop import ControlLoop
from vmm_worker.devices.terminal import OwnTerminal
from vmm_worker.landlock import Landlock, landlocked_context, open_nothing
from vmm_worker.monitor import Monitor
from vmm_worker.signals import Signals
from vmm_worker.vmm import Vmm

__all__ = ["main"]

_log = logging.getLogger(__name__)

_SWITCH_INTERVAL: Final = 0.0005
"""Seconds; see :func:`main`."""
_BOOT_TIMEOUT: Final = 600.0
"""Nobody waits for the command line's own boot; prefaulting much memory takes long."""

_COMMAND_LINE: Final = Context(request_id="command-line")
"""Whose its two jobs are, for the log and for ``vmm.jobs``."""


class _FirstVm(threading.Thread):
    """Creates and boots the command line's VM, as any other client of the worker would."""

    def __init__(self, ipc: Path, config: VmConfig) -> None:
        super().__init__(name="first-vm", daemon=True)
        self._ipc = ipc
        self._config = config
        self.error: VmError | None = None

    def run(self) -> None:
        open_nothing()
        with Client(self._ipc) as client:
            try:
                client.call(Operation.VM_CREATE, self._config, context=_COMMAND_LINE)
                client.call(Operation.VM_BOOT, timeout=_BOOT_TIMEOUT, context=_COMMAND_LINE)
            except VmFailure as ex:
                self.error = ex.error
                with contextlib.suppress(VmFailure):
                    client.call(Operation.VMM_SHUTDOWN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker and return its exit status."""
    settings = command_line.read(arguments)
    log.set_up(settings.log_level)
    # The loop answers reads while the operations thread runs Python of its own; it must
    # not wait the default 5 ms for the interpreter each time.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        with Signals() as signals:
            return _serve(settings, signals)
    except VmFailure as ex:
        _complain(ex.error)
        return 1


def _serve(settings: Settings, signals: Signals) -> int:
    # Before there is a thread: what is begun here opens no file, whatever the VM will need.
    context = landlocked_context()
    with (
        _place(settings),
        Server(settings.ipc, peers=settings.peers, context=context) as server,
        Landlock(kvm=settings.kvm, ipc=settings.ipc) as landlock,
    ):
        monitor = Monitor()
        monitor.tell("vmm", "starting")
        vmm = Vmm(kvm=settings.kvm, monitor=monitor, landlock=landlock)
        loop = ControlLoop(
            server,
            vmm,
            signals,
            monitor,
            landlock=landlock,
            event_target=settings.event_target,
            shutdown_timeout=settings.shutdown_timeout,
            exit_with_guest=settings.exit_with_guest,
        )
        _log.info("listening at %s", settings.ipc)
        first: _FirstVm | None = None
        try:
            if settings.config is not None:
                first = _FirstVm(settings.ipc, settings.config)
                first.start()
            status = loop.run()
        finally:
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
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"the runtime directory {path} cannot be made",
            causes=(ex.strerror or str(ex),),
        ) from ex


def _complain(error: VmError) -> None:
    """Say on stderr why the worker cannot go on: one line, and one for each field."""
    lines = [": ".join(("velum-vmm", error.message, *error.causes))]
    lines += [f"  {field.pointer or '/'}: {field.message}" for field in error.fields]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
