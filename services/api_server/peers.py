# SPDX-License-Identifier: Apache-2.0
"""The workers of this host, one IPC client each."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from api_server.hosts import vm_name
from ipc_protocol.client import Client
from ipc_protocol.context import NO_CONTEXT, Context
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.listener import lock_path
from ipc_protocol.messages import Operation
from ipc_protocol.names import ipc_path, is_name, vm_of

__all__ = ["Observe", "Peers"]

Observe: TypeAlias = Callable[[Operation, float, ErrorCode | None], None]


class Peers:
    """Finds the worker for a host and calls it.

    Clients are made when first needed, so an instance may be created before a fork, and live
    as long as their worker's socket does.

    Args:
        runtime_dir: Where the workers listen.
        default_vm: The VM that ``localhost`` stands for.
        pinned: The only worker there is, whatever the host; it replaces the two above.
        pins: The worker of whoever connects to a socket, by that socket's path.
        timeout: Seconds that replace each operation's own.
        observe: Told of each call: what, how many seconds it took, and how it failed if so.
    """

    def __init__(
        self,
        runtime_dir: Path,
        default_vm: str,
        *,
        pinned: Path | None = None,
        pins: Mapping[str, Path] = MappingProxyType({}),
        timeout: float | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._default_vm = default_vm
        self._pinned = pinned
        self._pins = pins
        self._timeout = timeout
        self._observe = observe
        self._clients: dict[Path, Client] = {}
        self._lock = threading.Lock()

    def locate(self, host: str, arrived_at: str = "") -> Path:
        """Return the socket of the worker for a host.

        The default VM's is always known, and so are those that sockets are pinned to; any other
        is known while its socket or its lock is there, even if nobody listens on it any more.

        Args:
            host: What the client calls the host.
            arrived_at: The path of the socket that it connected to.

        Raises:
            VmFailure: ``vm_unknown``.
        """
        pinned = self._pinned or self._pins.get(arrived_at)
        if pinned is not None:
            return pinned
        name = vm_name(host, self._default_vm)
        path = ipc_path(self._runtime_dir, name)
        if name != self._default_vm and not _is_there(path):
            self._forget(path)
            raise VmFailure(ErrorCode.VM_UNKNOWN, f"there is no VM of the name {name!r}")
        return path

    def everyone(self) -> dict[str, Path]:
        """Return the socket of each worker that there is, by the name of its VM."""
        if self._pinned is not None:
            return {vm_of(self._pinned): self._pinned}
        names = filter(is_name, sorted(folder.name for folder in self._runtime_dir.glob("*")))
        found = {name: ipc_path(self._runtime_dir, name) for name in names}
        return {name: path for name, path in found.items() if _is_there(path)}

    def call(
        self,
        path: Path,
        operation: Operation,
        body: object,
        *,
        timeout: float | None = None,
        context: Context = NO_CONTEXT,
    ) -> Any:
        """Have the worker at a path do something, and return its answer.

        Args:
            path: Its socket.
            operation: What to do.
            body: What the operation's signature asks for.
            timeout: Seconds to wait, if not as for every other call.
            context: Whose call it is, and how it is to be answered.

        Raises:
            VmFailure: The worker's own error, ``vmm_unavailable`` or ``vmm_timeout``.
        """
        with self._lock:
            client = self._clients.get(path)
            if client is None:
                client = self._clients[path] = Client(path)
        started = time.perf_counter()
        error: ErrorCode | None = None
        try:
            return client.call(operation, body, timeout=timeout or self._timeout, context=context)
        except VmFailure as ex:
            error = ex.error.code
            raise
        finally:
            self._observe(operation, time.perf_counter() - started, error)
            # A worker that ends takes its socket along; calls under way outlive this.
            ended = error is not None or operation is Operation.VMM_SHUTDOWN
            if ended and not _is_there(path):
                self._forget(path)

    def _forget(self, path: Path) -> None:
        with self._lock:
            client = self._clients.pop(path, None)
        if client is not None:
            client.close()

    def close(self) -> None:
        """Close all clients; calls that are under way go on."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()


def _is_there(path: Path) -> bool:
    """Tell whether a worker is or was there, or is about to be.

    Who takes the place of one that was killed removes its socket before it makes its own, and
    has the lock meanwhile.
    """
    return _has(path, stat.S_ISSOCK) or _has(lock_path(path), stat.S_ISREG)


def _has(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except PermissionError:
        return True  # Somebody's, and the call will say what is wrong.
    except OSError:
        return False
