# SPDX-License-Identifier: Apache-2.0
"""Each curl line of the reference does what stands below it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from api_server.routes import PREFIX, ROUTES
from api_server.specification.endpoints import ENDPOINTS
from api_server.specification.reference import SOCKET
from ipc_protocol.messages import VmState
from tests.support.api import ApiProcess
from tests.support.contract import check
from tests.support.guests import build
from tests.support.http import Response
from tests.support.processes import Worker, make_file, start_worker

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
STATE = re.compile(r"^With a VM that is `(\w+)`:$", re.MULTILINE)
COMMAND = re.compile(r"^```sh\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"^Answer: (\d+) [^,:\n]*?(?:, `(\w+)`)?[.:]$", re.MULTILINE)
CURL_TIMED_OUT = 28
SHOWN_WHOLE = "/api/v1/vm.info"
LAST = "/api/v1/vmm.shutdown"


class Example(NamedTuple):
    path: str
    state: VmState | None
    command: str
    status: int
    code: str
    """Of the problem; "" where there is none."""


def examples() -> list[Example]:
    found = []
    for section in PAGE.read_text().split("\n### /")[1:]:
        state = STATE.search(section)
        (command,) = COMMAND.findall(section)
        ((status, code),) = ANSWER.findall(section)
        path = "/" + section.partition("\n")[0]
        vm_state = VmState(state[1]) if state else None
        found.append(Example(path, vm_state, command, int(status), code))
    return sorted(found, key=lambda each: each.path == LAST)


def here(text: str, folder: Path) -> str:
    """Put files of this test in place of those that the page names."""
    for old, new in (
        (SOCKET, folder / "api.sock"),
        ("/boot/vmlinuz", build("nmi")),
        ("/var/lib/velum", folder),
    ):
        text = text.replace(old, str(new))
    return text


def prepare(worker: Worker, state: VmState | None, folder: Path) -> None:
    """Bring the VM of the example of ``vm.create`` into the state that another is about."""
    worker.call("vm.delete")
    if state is None:
        return
    worker.call("vm.create", json.loads(here(json.dumps(ENDPOINTS["vm.create"].body), folder)))
    if state is not VmState.CREATED:
        worker.call("vm.boot")
    if state is VmState.PAUSED:
        worker.call("vm.pause")
    worker.wait_for(state=state)


def run(command: str, folder: Path, *, endless: bool) -> Response:
    """Run a line in a shell, as it stands but for the files it names, and not for ever."""
    head, body = folder / "head", folder / "body"
    body.write_bytes(b"")
    # In the tier of sanitizers, their run-time library is for Python: curl hangs with it.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    limit = "--max-time 3" if endless else ""
    done = subprocess.run(
        [
            "bash",
            "-euc",
            f"{here(command, folder)} {limit} --silent --show-error -D '{head}' -o '{body}'",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (CURL_TIMED_OUT if endless else 0), (command, done.stderr)
    first, *lines = head.read_text().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return Response(int(first.split()[1]), headers, body.read_bytes())


def test_there_is_one_for_every_route() -> None:
    assert [each.path for each in examples()].count(LAST) == 1
    assert sorted(each.path for each in examples()) == sorted(ROUTES)
    assert len(ENDPOINTS) == len(ROUTES)


@pytest.mark.kvm
def test_each_does_what_it_says(tmp_path: Path) -> None:
    for name in ("root.img", "data.img"):
        make_file(tmp_path / name, 2 << 20)
    with start_worker(tmp_path) as worker, ApiProcess(tmp_path):
        for example in examples():
            prepare(worker, example.state, tmp_path)
            endless = ENDPOINTS[example.path.removeprefix(PREFIX)].endless
            response = run(example.command, tmp_path, endless=endless)
            assert response.status == example.status, (example, response.body)
            assert not example.code or response.json["code"] == example.code
            if example.path == SHOWN_WHOLE:
                answer = ENDPOINTS[example.path.removeprefix(PREFIX)].answer
                assert response.json == json.loads(here(json.dumps(answer), tmp_path))
            check(ROUTES[example.path].method, example.path, response)
        assert worker.wait() == 0
