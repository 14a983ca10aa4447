# SPDX-License-Identifier: Apache-2.0
"""A server, a worker that can do no harm, and schemathesis, which knows only the specification."""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import Worker, start_worker
from tests.support.relay import relay
from tests.support.sandbox import sandbox

__all__ = ["Fuzzing", "Phases", "fuzzing"]

CONFIG = """\
[checks]
# What is not built yet is in the specification as just that.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501]
# No schema tells of rules between fields (400), of files that are not there or of what this
# host cannot do (422). Which refusals are right is for tests of their own.
positive_data_acceptance.expected-statuses = ["2xx", 400, 404, 409, 422, 429, 501]
"""

_STATUS = re.compile(r" message=request .* status=(\d+) ")
_FAULTS = frozenset({"500", "502", "503", "504"})


class Phases(enum.StrEnum):
    """Parts of what schemathesis does; each has its share of the time."""

    REQUESTS = "examples,coverage,fuzzing"
    SEQUENCES = "stateful"


@dataclass
class Fuzzing:
    """A server that is being asked, and what it has answered."""

    api: ApiProcess
    worker: Worker
    folder: Path
    port: int

    def run(self, phases: Phases, *, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
        """Have schemathesis make requests for that long."""
        base = f"http://127.0.0.1:{self.port}/api/v1"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={self.folder}/config.toml"),
            *("run", f"{base}/openapi.json", f"--url={base}", f"--max-time={seconds}"),
            # The default VM by name: not every machine can look it up as an address.
            "--header=Host:localhost",
            *("--checks=all", f"--phases={phases}", f"--seed={seed}"),
            *("--generation-database=none", "--no-color"),
            # It ends the worker; what never ends by itself is for tests of its own.
            *("--exclude-path=/vmm.shutdown", "--exclude-path=/vmm.events"),
            # It is beside the base of the others, and there schemathesis does not look.
            "--exclude-path=/metrics",
        ]
        environment = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.integration.conformance.hooks",
            "VELUM_GUEST": str(self.folder / "guest.elf"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        return subprocess.run(
            command,
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )

    def statuses(self) -> Counter[str]:
        """Return how often the server has answered with each status, by its own log."""
        return Counter(_STATUS.findall(self.api.read_log()))

    def faults(self) -> list[str]:
        """Return what no request may bring about, whatever the specification says."""
        found = [f"{status} was answered" for status in _FAULTS & self.statuses().keys()]
        found += [
            each.read_log()
            for each in (self.api, self.worker)
            if each.process.poll() is not None or "Traceback" in each.read_log()
        ]
        return found


@contextlib.contextmanager
def fuzzing() -> Iterator[Fuzzing]:
    """Run a server and a worker that can write nowhere but in a folder of their own."""
    root = Path(tempfile.mkdtemp(prefix="velum-conformance-"))
    try:
        runtime = root / "run"
        runtime.mkdir()
        shutil.copy(build("count"), root / "guest.elf")
        (root / "config.toml").write_text(CONFIG)
        with contextlib.ExitStack() as stack:
            confined = {"cwd": runtime, "preexec_fn": sandbox(root)}
            worker = stack.enter_context(start_worker(runtime, **confined))
            api = stack.enter_context(ApiProcess(runtime))
            port = stack.enter_context(relay(api.socket))
            yield Fuzzing(api, worker, root, port)
    finally:
        shutil.rmtree(root)
