# SPDX-License-Identifier: Apache-2.0
"""A Prometheus that scrapes a UNIX socket, and the queries of a dashboard put to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.http import UnixHTTP

__all__ = ["SCRAPE", "Prometheus", "Series", "prometheus"]

SCRAPE: Final = 2
"""Seconds between two scrapes."""
_JOB: Final = "velum"
_START_LIMIT: Final = 60.0
_CONFIG: Final = """
global: {{scrape_interval: {scrape}s, scrape_timeout: {scrape}s}}
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


class Series(NamedTuple):
    """One line of a panel."""

    labels: dict[str, str]
    points: list[tuple[float, float]]
    """Time in seconds and value."""


class Prometheus:
    """One that runs, at a port of this host."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        """Wait until it has scraped something."""
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self._ask("query", query=f'up{{job="{_JOB}"}} == 1')["result"]:
                    return
            time.sleep(0.2)
        raise TimeoutError("Prometheus has scraped nothing")

    def series(self, expression: str, start: float, end: float) -> list[Series]:
        """Put a dashboard's query, its variables replaced as Grafana would."""
        for variable, value in (("__rate_interval", f"{5 * SCRAPE}s"), ("job", _JOB), ("vm", ".*")):
            expression = expression.replace(f"${variable}", value)
        answer = self._ask("query_range", query=expression, start=start, end=end, step=SCRAPE)
        return [
            Series(each["metric"], [(at, float(value)) for at, value in each["values"]])
            for each in answer["result"]
        ]

    def _ask(self, what: str, **parameters: Any) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/api/v1/{what}?{query}") as answer:  # noqa: S310
            return json.load(answer)["data"]


@contextlib.contextmanager
def prometheus(place: Path, metrics: Path) -> Iterator[Prometheus]:
    """Run Prometheus on what a socket serves."""
    (place / "prometheus").mkdir()
    port = _free_port()
    with _bridge(metrics) as target:
        config = place / "prometheus.yml"
        config.write_text(_CONFIG.format(scrape=SCRAPE, job=_JOB, port=target))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={place}/prometheus",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with subprocess.Popen(command) as process:
            try:
                running = Prometheus(port)
                running.wait()
                yield running
            finally:
                process.terminate()


class _Bridge(BaseHTTPRequestHandler):
    """Asks the UNIX socket, as systemd-socket-proxyd does for a host that has systemd."""

    metrics: Path

    def do_GET(self) -> None:
        with UnixHTTP(self.metrics) as api:
            answer = api.get(self.path, headers={"Accept": self.headers["Accept"]})
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # Prometheus did not wait for it.
            self.wfile.write(answer.body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _bridge(metrics: Path) -> Iterator[int]:
    """Lead a port of this host to a UNIX socket."""
    handler = type("Bridge", (_Bridge,), {"metrics": metrics})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
