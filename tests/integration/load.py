# SPDX-License-Identifier: Apache-2.0
"""Many keep-alive clients at once, each with one request under way, each answer checked.

``python -m tests.integration.load --seconds 60`` runs it for as long as one likes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import selectors
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.support.api import ApiProcess
from tests.support.hostile import Usage
from tests.support.processes import Worker, start_worker

__all__ = ["Load", "Request", "servers", "workload"]

CLIENTS = 64
CHURNING = 8
WARM_UP = 0.25
"""The share of the time after which nothing may grow any more."""

CONFIG = b'{"payload":{"kernel":"/boot/vmlinuz"},"disks":[{"path":"/disk"}]}'
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Request(NamedTuple):
    """What a client asks, and the one status it is to be answered with."""

    data: bytes
    status: int


def request(method: str, name: str, host: str, status: int, body: bytes = b"") -> Request:
    """Return a request for ``/api/v1/<name>`` of a VM."""
    head = (
        f"{method} /api/v1/{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode() + body, status)


def workload(index: int) -> Sequence[Request]:
    """Return what a client does over and over: some change a VM of their own, the others read."""
    if index < CHURNING:
        vm = f"vm-{index}"
        return (
            request("PUT", "vm.create", vm, 204, CONFIG),
            request("GET", "vm.info", vm, 200),
            request("PUT", "vm.create", vm, 409, CONFIG),
            request("PUT", "vm.boot", vm, 422),
            request("PUT", "vm.delete", vm, 204),
            request("GET", "vm.info", vm, 404),
        )
    return (
        request("GET", "vmm.ping", "localhost", 200),
        request("GET", "vm.info", "localhost", 200),
        request("GET", "vmm.ping", f"vm-{index % CHURNING}", 200),
        request("PUT", "vm.create", "localhost", 400, b'{"payload":{}}'),
        request("GET", "vm.counters", "localhost", 409),
        request("GET", "nothing", "localhost", 404),
        request("GET", "vmm.ping", "nobody", 404),
    )


class _Client:
    """One connection that is never closed."""

    def __init__(self, path: Path, requests: Sequence[Request]) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._turns = itertools.cycle(requests)
        self._answer = b""
        self.asked: Request

    def ask(self) -> None:
        """Send the next request."""
        self._answer = b""
        self.asked = next(self._turns)
        self.socket.sendall(self.asked.data)

    def status(self) -> int | None:
        """Read on; return the status once the answer is complete."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError(f"the server hung up after {self.asked.data!r}")
        self._answer += data
        head = _HEAD.match(self._answer)
        if head is None:
            return None
        length = _LENGTH.search(head[0])
        if len(self._answer) < head.end() + (int(length[1]) if length else 0):
            return None
        return int(head[1])


@dataclass
class Load:
    """What came of it."""

    answered: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """Request and status -> how often it was another than the one it should be."""
    before: list[Usage] = field(default_factory=list)
    after: list[Usage] = field(default_factory=list)
    """Of the server and of each worker: warm, and at the end."""

    def growth(self) -> list[Usage]:
        """Return what each process has more at the end."""
        pairs = zip(self.before, self.after, strict=True)
        return [after.growth_since(before) for before, after in pairs]

    def run(self, api: ApiProcess, workers: Sequence[Worker], seconds: float) -> None:
        """Keep every client busy for that long."""

        def usage() -> list[Usage]:
            return [Usage.of_server(api), *(Usage.of(worker.pid) for worker in workers)]

        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            for index in range(CLIENTS):
                client = _Client(api.socket, workload(index))
                stack.enter_context(client.socket)
                selector.register(client.socket, selectors.EVENT_READ, client)
                client.ask()
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds:
                if not self.before and elapsed > seconds * WARM_UP:
                    self.before = usage()
                for key, _ in selector.select(seconds):
                    self._take(key.data)
            self.after = usage()

    def _take(self, client: _Client) -> None:
        status = client.status()
        if status is None:
            return
        self.answered += 1
        if status != client.asked.status:
            line = client.asked.data.partition(b"\r\n")[0].decode()
            self.wrong[f"{line}: {status}, not {client.asked.status}"] += 1
        client.ask()


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[ApiProcess, list[Worker]]]:
    """Run a server and a worker for each client that changes something, and one for reads."""
    with contextlib.ExitStack() as stack:
        names = ["default", *(f"vm-{index}" for index in range(CHURNING))]
        workers = [stack.enter_context(start_worker(folder, name=name)) for name in names]
        api = stack.enter_context(ApiProcess(folder))
        assert api.request("PUT", "vm.create", CONFIG).status == 204
        yield api, workers


def main() -> int:
    """Run it from the command line and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds: float = parser.parse_args().seconds
    load = Load()
    with tempfile.TemporaryDirectory(prefix="velum-load-") as folder:
        runtime = Path(folder) / "run"
        runtime.mkdir()
        with servers(runtime) as (api, workers):
            load.run(api, workers, seconds)
    print(f"{load.answered} requests in {seconds:g} s, {load.answered / seconds:.0f}/s")
    for line, count in load.wrong.most_common():
        print(f"{count} times {line}")
    for index, (memory, descriptors, threads) in enumerate(load.growth()):
        name = f"worker {index}" if index else "server"
        print(f"{name}: {memory >> 10:+} KiB, {descriptors:+} descriptors, {threads:+} threads")
    return 1 if load.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
