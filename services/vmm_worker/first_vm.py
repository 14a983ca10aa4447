# SPDX-License-Identifier: Apache-2.0
"""The VM that the worker starts with: that of its command line or of its file."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ipc_protocol.client import Client
from ipc_protocol.config import VmConfig
from ipc_protocol.context import Context
from ipc_protocol.errors import VmError, VmFailure
from ipc_protocol.messages import Operation
from vmm_worker.landlock import open_nothing
from vmm_worker.prepare.folder import MARK

__all__ = ["FirstVm", "Wish"]

_log = logging.getLogger(__name__)

_TIMEOUT: Final = 600.0
"""Seconds for either step. Nobody waits for them: prefaulting much memory takes long, and
everything does on a host that starts all its VMs at once."""
_COMMAND_LINE: Final = Context(request_id="command-line")
"""Whose the two jobs are, for the log and for ``vmm.jobs``."""


class Wish(NamedTuple):
    """The VM that is wanted."""

    config: VmConfig
    boot: bool = True
    """Whether to boot it too."""
    boot_again: bool = True
    """Whether to do so although a worker crashed that had done it."""


class FirstVm(threading.Thread):
    """Creates and boots the VM, as any other client of the worker would.

    Args:
        ipc: The worker's socket.
        wish: What is wanted.
        done: Called when the worker has it.
    """

    def __init__(self, ipc: Path, wish: Wish, done: Callable[[], None]) -> None:
        super().__init__(name="first-vm", daemon=True)
        self._ipc = ipc
        self._config = wish.config
        self._done = done
        self._mark = ipc.with_name(MARK)
        # Here, as the thread itself can open no file, and a confined process makes none.
        self._boots = wish.boot and (wish.boot_again or self._is_first())
        self.error: VmError | None = None

    def run(self) -> None:
        """Do it; what fails ends the worker."""
        open_nothing()
        with Client(self._ipc) as client:
            try:
                client.call(
                    Operation.VM_CREATE, self._config, timeout=_TIMEOUT, context=_COMMAND_LINE
                )
                if self._boots:
                    client.call(Operation.VM_BOOT, timeout=_TIMEOUT, context=_COMMAND_LINE)
                self._done()
            except VmFailure as ex:
                self.error = ex.error
                with contextlib.suppress(VmFailure):
                    client.call(Operation.VMM_SHUTDOWN)

    def forget(self) -> None:
        """Leave no mark: the worker ends in order."""
        with contextlib.suppress(OSError):
            self._mark.unlink()

    def _is_first(self) -> bool:
        """Say whether no worker crashed with this VM, and leave the mark of one that may."""
        if self._mark.exists():
            _log.warning(
                "the worker crashed while it had the VM, which is not booted again, as "
                "host.restart is false: vm.boot does it"
            )
            return False
        self._mark.touch(mode=0o600)
        return True
