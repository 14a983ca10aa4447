# SPDX-License-Identifier: Apache-2.0
"""Reads over the API's socket: latency and rate, at rest, during boots and during scrapes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.performance.layers import measure_layers
from tests.integration.performance.measure import Results, percentile
from tests.integration.performance.processes import (
    Service,
    cpu_seconds,
    descendants,
    pss_kib,
    service,
)
from tests.support.guests import build

__all__ = ["measure"]

_STATUS = b"HTTP/1.1 200 "
_REQUESTS = 1000
_SECONDS = 5.0
_NANOSECONDS_IN_MS = 1e6


class _Client:
    """One keep-alive connection with one request under way."""

    def __init__(self, path: Path, operation: str) -> None:
        self._request = f"GET /api/v1/{operation} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._answer = b""
        self._started = 0

    def ask(self) -> None:
        self._answer = b""
        self._started = time.monotonic_ns()
        self.socket.sendall(self._request)

    def receive(self) -> float | None:
        """Return the milliseconds it took once the answer is complete."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the API closed a connection")
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        took = (time.monotonic_ns() - self._started) / _NANOSECONDS_IN_MS
        if not head.startswith(_STATUS):
            raise ConnectionError(f"{self._request!r}: {head.decode()}")
        return took


def _load(path: Path, clients: int, operation: str = "vmm.ping") -> tuple[list[float], float]:
    """Keep that many requests under way; return each one's time in ms, and the rate.

    It ends after a number of requests, or where the machine is slow after some seconds.
    """
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        crowd = [_Client(path, operation) for _ in range(clients)]
        for client in crowd:
            stack.enter_context(client.socket)
            selector.register(client.socket, selectors.EVENT_READ, client)
        started = time.monotonic_ns()
        for client in crowd:
            client.ask()
        deadline = started + int(_SECONDS * 1e9)
        while len(latencies) < _REQUESTS and time.monotonic_ns() < deadline:
            for key, _ in selector.select():
                took = key.data.receive()
                if took is not None:
                    latencies.append(took)
                    key.data.ask()
        seconds = (time.monotonic_ns() - started) / 1e9
    return latencies, len(latencies) / seconds


@contextlib.contextmanager
def _boots(running: Service, payload: dict[str, str]) -> Iterator[None]:
    """Boot and shut down a VM again and again while the context lasts."""
    stop = threading.Event()
    failures: list[str] = []
    config = {"payload": payload, "serial": {"mode": "Null"}}

    def cycle() -> None:
        with running.client() as client:
            while not stop.is_set():
                for operation, body in (
                    ("create", config),
                    ("boot", None),
                    ("shutdown", None),
                    ("delete", None),
                ):
                    answer = client.put(f"/api/v1/vm.{operation}", body)
                    if answer.status >= 300:
                        failures.append(f"vm.{operation}: {answer.status} {answer.body!r}")
                        return
                    if operation == "boot":
                        stop.wait(1)

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise RuntimeError(failures[0])


@contextlib.contextmanager
def _scrapes(running: Service) -> Iterator[None]:
    """Ask for the metrics again and again while the context lasts."""
    stop = threading.Event()

    def scrape() -> None:
        with running.client() as client:
            while not stop.is_set():
                client.get("/metrics")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _cpu_time(running: Service) -> Iterator[dict[str, float]]:
    """Yield what will be the CPU time, in seconds, that each process has had in the context.

    Unlike a latency it hardly depends on what else the machine does.
    """
    processes = {"API": list(descendants(running.api.pid)), "worker": [running.worker.pid]}
    before = {name: cpu_seconds(pids) for name, pids in processes.items()}
    spent: dict[str, float] = {}
    yield spent
    spent.update({name: cpu_seconds(pids) - before[name] for name, pids in processes.items()})


def _measure_rest(results: Results, running: Service) -> None:
    """Measure reads while nothing else is done."""
    for operation in ("vmm.ping", "vm.info"):
        for clients in (1, 8):
            with _cpu_time(running) as spent:
                latencies, rate = _load(running.socket, clients, operation)
            name = f"{operation}, {clients} client{'s' * (clients > 1)}"
            median = percentile(latencies, 50)
            results.add(f"{name}, p50", "ms", median, aim=1.0 if clients == 1 else None)
            results.add(f"{name}, p99", "ms", percentile(latencies, 99))
            results.add(f"{name}, rate", "1/s", rate)
            for process, seconds in spent.items():
                results.add(f"{name}, CPU of the {process}", "us", seconds / len(latencies) * 1e6)
            if (operation, clients) == ("vmm.ping", 1):
                measure_layers(results, running.ipc, median)


def measure(results: Results, runs: int, payload: dict[str, str] | None = None) -> None:
    """Measure the API.

    Args:
        results: Where to.
        runs: How many of each kind.
        payload: What is booted meanwhile; a guest that counts if ``None``.
    """
    payload = payload or {"kernel": str(build("count"))}
    with service() as running, running.client() as client:
        _load(running.socket, 1)
        for _ in range(runs):
            client.put("/api/v1/vm.create", {"payload": payload})
            _measure_rest(results, running)
            with _scrapes(running):
                latencies, _ = _load(running.socket, 1)
            results.add("vmm.ping during scrapes, p99", "ms", percentile(latencies, 99), aim=5.0)
            client.put("/api/v1/vm.delete")
            with _boots(running, payload):
                latencies, _ = _load(running.socket, 1)
            results.add("vmm.ping during boots, p50", "ms", percentile(latencies, 50))
            results.add("vmm.ping during boots, p99", "ms", percentile(latencies, 99), aim=5.0)
            results.add("API, PSS", "MiB", pss_kib(running.api.pid) / 1024, aim=60)
