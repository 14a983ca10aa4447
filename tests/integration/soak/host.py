# SPDX-License-Identifier: Apache-2.0
"""Where the VMs of a soak run: who starts their workers, and starts them again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self

from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.hostile import serving
from tests.support.processes import Worker, start_worker

__all__ = ["DISK_BYTES", "MEMORY_BYTES", "Host", "ProcessHost", "guest_config"]

MEMORY_BYTES: Final = 16 << 20
DISK_BYTES: Final = 1 << 20


class Host(Protocol):
    """Workers and an API that somebody keeps running."""

    socket: Path
    """The API's."""

    def config(self, name: str) -> dict[str, Any]:
        """Return the body of a VM's ``vm.create``."""

    def kill(self, name: str) -> None:
        """Kill a VM's worker, and return once it is gone; another one will take its place."""

    def workers(self) -> Mapping[str, int]:
        """Return the process of each VM's worker."""

    def api(self) -> int:
        """Return the process that serves the API."""

    def start_api(self) -> None:
        """Have the API served."""

    def stop_api(self) -> None:
        """End the API, hence all its connections to workers."""

    def folders(self) -> Sequence[Path]:
        """Return the folders in which nothing may stay behind."""

    def cgroups(self) -> Sequence[Path]:
        """Return the control groups there are of ours."""


def guest_config(kernel: Path, state: Path, runtime: Path) -> dict[str, Any]:
    """Return a VM with a device of each kind that has a file or a socket on the host.

    Args:
        kernel: Of the guest.
        state: Where its files are.
        runtime: Where its sockets are.
    """
    return {
        "payload": {"kernel": str(kernel)},
        "memory": {"size": MEMORY_BYTES},
        "disks": [{"path": str(state / "disk")}],
        "vsock": {"cid": 3, "socket": str(runtime / "vsock")},
        "serial": {"mode": "File", "file": str(state / "serial")},
    }


class ProcessHost:
    """Plain processes in a folder of their own.

    Args:
        folder: An empty one.
        names: Of the VMs.
        configured: Those among them that their workers boot by themselves.
    """

    def __init__(self, folder: Path, names: Sequence[str], configured: Sequence[str]) -> None:
        self._runtime = folder / "run"
        self._state = folder / "state"
        self._runtime.mkdir()
        self.socket = self._runtime / "api.sock"
        self._names = names
        self._configured = frozenset(configured)
        self._workers: dict[str, Worker] = {}
        self._api: ApiProcess | None = None
        self._kernel = build("button")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name in self._names:
                state = self._state / name
                state.mkdir(parents=True)
                with (state / "disk").open("wb") as disk:
                    disk.truncate(DISK_BYTES)
                (state / "vm.json").write_text(json.dumps(self.config(name)))
                self._start(name)
            for worker in self._workers.values():
                worker.wait_until_ready()
                worker.client.close()  # What is counted is the API's connections.
            self.start_api()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process."""
        with contextlib.ExitStack() as stack:
            for worker in self._workers.values():
                stack.push(worker)
            if self._api is not None:
                stack.push(self._api)

    def config(self, name: str) -> dict[str, Any]:
        """Return the body of a VM's ``vm.create``."""
        runtime = ipc_path(self._runtime, name).parent
        return guest_config(self._kernel, self._state / name, runtime)

    def kill(self, name: str) -> None:
        """Kill a worker, and start another."""
        worker = self._workers[name]
        worker.process.kill()
        worker.wait()
        worker.client.close()
        self._start(name)

    def workers(self) -> dict[str, int]:
        """Return the process of each VM's worker."""
        return {name: worker.pid for name, worker in self._workers.items()}

    def api(self) -> int:
        """Return the process that serves."""
        assert self._api is not None
        return serving(self._api.pid)

    def start_api(self) -> None:
        """Start it, and wait until it listens."""
        self._api = ApiProcess(self._runtime)

    def stop_api(self) -> None:
        """End it."""
        assert self._api is not None
        self._api.stop()

    def folders(self) -> tuple[Path, ...]:
        """Return the folders of all sockets, files and logs."""
        return self._runtime, self._state

    def cgroups(self) -> tuple[Path, ...]:
        """Return none: plain processes stay in the one they were started in."""
        return ()

    def _start(self, name: str) -> None:
        own = ("--config", self._state / name / "vm.json") if name in self._configured else ()
        self._workers[name] = start_worker(self._runtime, *own, name=name, ready=False)
