# SPDX-License-Identifier: Apache-2.0
"""A small host at work: tiny guests with a disk, a network and a balloon, and who uses the API."""

from __future__ import annotations

import itertools
import math
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.network import ECHO, Frame, Station, own_network
from tests.support.processes import make_file, start_worker, vm_config

__all__ = ["scene"]

_FOREVER: Final = 4_000_000_000
_READS: Final = ("vmm.ping", "vm.info", "vm.counters")
_FRAME: Final = bytes(12) + ECHO.to_bytes(2, "big") + bytes(1000)


def _vms(place: Path) -> dict[str, dict[str, Any]]:
    """Return the VMs by their names; `spare` is a worker that has none."""
    null = {"serial": {"mode": "Null"}, "console": {"mode": "Off"}}
    disk = {"path": make_file(place / "disk", 1 << 20)}
    limited = {"ops": {"size": 150, "refill_time": 1000}}
    return {
        "web": vm_config(
            build("netecho"),
            payload={"cmdline": f"frames={_FOREVER}"},
            net=[{"tap": "web0", "vhost": False}],
            **null,
        ),
        "db": vm_config(
            build("disk"),
            payload={"cmdline": f"rounds={_FOREVER}"},
            disks=[{**disk, "rate_limiter_config": limited}],
            **null,
        ),
        "batch": vm_config(build("count"), **null),
        "lab": vm_config(
            build("balloon"),
            payload={"cmdline": "pages=4096"},
            memory={"size": 64 << 20},
            balloon={"size": 0, "statistics": True},
            **null,
        ),
    }


@contextmanager
def _threads(*loops: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _visit_web(stop: threading.Event) -> None:
    """Have frames sent back, in waves."""
    with Station("web0") as station:
        while not stop.wait(0.01):
            for _ in range(round(6 + 5 * math.sin(time.monotonic() / 8))):
                station.send(Frame(_FRAME))
                station.receive()


class _Operators:
    """Who uses the API."""

    def __init__(self, api: ApiProcess, names: list[str]) -> None:
        self._api = api
        self._names = names

    def read(self, stop: threading.Event) -> None:
        """Look at every VM in turn, and at one that is not there."""
        hosts = itertools.cycle([*self._names, "spare", *self._names, "nobody"])
        for host, read in zip(hosts, itertools.cycle(_READS), strict=False):
            if stop.wait(0.03):
                return
            with self._api.http(host=host) as http:
                http.get(f"/api/v1/{read}")

    def change(self, stop: threading.Event) -> None:
        """Pause, resize, shut down and boot; some of it at the wrong time."""
        turns: list[tuple[str, str, Any]] = [
            ("batch", "vm.resume", None),
            ("lab", "vm.resize", {"desired_balloon": 12 << 20}),
            ("batch", "vm.pause", None),
            ("lab", "vm.boot", None),
            ("lab", "vm.resize", {"desired_balloon": 4 << 20}),
            ("lab", "vm.shutdown", None),
            ("batch", "vm.pause", None),
            ("lab", "vm.boot", None),
        ]
        for host, operation, body in itertools.cycle(turns):
            if stop.wait(3):
                return
            with self._api.http(host=host) as http:
                http.put(f"/api/v1/{operation}", body)


@contextmanager
def scene(place: Path) -> Iterator[Path]:
    """Have it all run, in a network of its own; yields where the metrics are served."""
    with ExitStack() as stack:
        stack.enter_context(own_network())
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        vms = _vms(place)
        workers = {
            name: stack.enter_context(start_worker(place, name=name)) for name in (*vms, "spare")
        }
        metrics = place / "metrics.sock"
        api = stack.enter_context(ApiProcess(place, "--metrics-socket", metrics))
        for name, config in vms.items():
            workers[name].call("vm.create", config)
            workers[name].call("vm.boot")
        workers["batch"].call("vm.pause")
        operators = _Operators(api, list(vms))
        stack.enter_context(_threads(_visit_web, operators.read, operators.change))
        yield metrics
