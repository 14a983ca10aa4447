# SPDX-License-Identifier: Apache-2.0
"""Tables, events, waiting: what velumctl makes of the server's answers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

from tests.support.processes import DEADLINE
from tests.support.scripted_api import Reply, Request, ScriptedApi, problem
from tests.support.velumctl import Velumctl
from tests.support.waiting import wait_until
from velumctl.cli import cli

PYTHON = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
INFO = {
    "state": "Running",
    "memory_actual_size": 512 << 20,
    "boots": 2,
    "config": {
        "cpus": {"boot_vcpus": 1, "max_vcpus": 4},
        "payload": {"kernel": "/boot/vmlinuz", "cmdline": "console=hvc0 \x1b[2J [red]"},
        "serial": {"mode": "Pty", "file": "/dev/pts/3"},
        "console": {"mode": "Off"},
        "disks": [{"path": "/d", "id": "_disk0"}],
        "rng": {"src": "/dev/urandom", "id": "__rng"},
        "watchdog": False,
    },
    "last_stop": {"reason": "reset", "source": "__i8042", "time": 0.0, "detail": "why"},
}


def answers(documents: dict[str, Any]) -> Any:
    """Answer each read with its document."""

    def answer(request: Request) -> Reply:
        document = documents[request.target.removeprefix("/api/v1/")]
        return (
            document if isinstance(document, Reply) else Reply(200, json.dumps(document).encode())
        )

    return answer


def test_info(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = answers({"vm.info": INFO})
    lines = [line.rstrip() for line in velumctl("info").out.splitlines()]
    assert lines[:-5] == [
        "state      Running",
        "boots      2",
        "vCPUs      1, up to 4",
        "memory     512 MiB",
        "kernel     /boot/vmlinuz",
        "cmdline    console=hvc0 \\x1b[2J [red]",
        "serial     Pty /dev/pts/3",
        "console    Off",
    ]
    assert lines[-5].startswith("last stop  reset by __i8042 at 19")
    assert lines[-4:] == [
        "",
        "DEVICE  KIND  WHAT",
        "_disk0  disk  /d",
        "__rng   rng   /dev/urandom",
    ]


def test_counters_ping_and_list(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = answers(
        {
            "vm.counters": {"_disk0": {"read_bytes": 1024, "read_ops": 2}, "__boot": {}},
            "vmm.ping": {"build_version": "v1", "version": "1", "pid": 7, "features": []},
            "vmm.list": [
                {"name": "web-1", "state": "Running", "pid": 11},
                {"name": "web-2", "state": "Unresponsive"},
            ],
        }
    )
    assert [line.split() for line in velumctl("counters").out.splitlines()] == [
        ["DEVICE", "COUNTER", "VALUE"],
        ["_disk0", "read_bytes", "1024"],
        ["_disk0", "read_ops", "2"],
    ]
    assert velumctl("ping").out == "v1 with pid 7\n"
    assert [line.split() for line in velumctl("list").out.splitlines()] == [
        ["NAME", "STATE", "PID"],
        ["web-1", "Running", "11"],
        ["web-2", "Unresponsive"],
    ]


def test_top(server: ScriptedApi, velumctl: Velumctl) -> None:
    rounds = iter(range(100))

    def answer(request: Request) -> Reply:
        if request.target.endswith("vm.counters"):
            turn = next(rounds)
            vcpu = {"cpu_us": turn * 10_000_000, "exits_io": turn * 5, "exits_mmio": turn}
            disk = {"read_bytes": turn * (1 << 30), "write_bytes": 0}
            return Reply(200, json.dumps({"__vcpu0": vcpu, "_disk0": disk}).encode())
        return answers(
            {
                "vm.info": INFO,
                "vmm.list": [
                    {"name": "web-1", "state": "Running", "pid": 11},
                    {"name": "web-2", "state": "Unresponsive"},
                ],
            }
        )(request)

    server.answer = answer
    outcome = velumctl("top", "--interval", "0.1", "--count", "2")
    assert outcome.code == 0
    *_, header, web_1, web_2 = [line.split() for line in outcome.out.splitlines()]
    assert header[:4] == ["NAME", "STATE", "VCPUS", "CPU"]
    assert web_1[:3] == ["web-1", "Running", "1"]
    assert web_1[3].endswith("%")
    assert float(web_1[3][:-1]) > 0
    assert web_1[4:6] == ["512", "MiB"]
    assert web_2 == ["web-2", "Unresponsive"]
    assert {each.headers["host"] for each in server.received} == {"localhost", "web-1"}


def test_top_of_a_vm_that_is_not_there(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: problem(404, "vm_not_created", "there is no VM")
    outcome = velumctl("--vm", "web-1", "top", "--count", "1")
    assert outcome.code == 0
    assert "web-1  there is no VM" in outcome.out


def event(number: int, name: str, **properties: str) -> bytes:
    """Return one event as the server sends it."""
    source, _, kind = name.partition(".")
    document = {
        "timestamp": {"secs": number, "nanos": 250_000_000},
        "source": source,
        "event": kind,
        "properties": properties or None,
    }
    return f"id: e-{number}\nevent: {name}\ndata: {json.dumps(document)}\n\n".encode()


def test_events_go_on_after_a_loss(server: ScriptedApi, velumctl: Velumctl) -> None:
    def answer(request: Request) -> Reply | None:
        assert request.target == "/api/v1/vmm.events"
        match request.headers.get("last-event-id"):
            case None:
                first = b": alive\n\n", event(1, "vm.booting"), event(2, "vm.booted")
                return Reply(200, iter(first), "text/event-stream")
            case "e-2" if len(server.received) == 2:
                return None
            case "e-2":
                more = [event(3, "virtio-device.activated", id="_disk0")]
                return Reply(200, iter(more), "text/event-stream")
        return problem(503, "vmm_unavailable", "unexpected")

    server.answer = answer
    outcome = velumctl("events", "--count", "3")
    assert outcome.out.splitlines() == [
        "     1.250 vm.booting",
        "     2.250 vm.booted",
        "     3.250 virtio-device.activated id=_disk0",
    ]
    assert len(server.received) == 3


def test_events_as_json_behind_an_id(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: Reply(200, iter([event(4, "vm.paused")]), "text/event-stream")
    outcome = velumctl("events", "--json", "--after", "e-3", "--count", "1")
    assert json.loads(outcome.out)["event"] == "paused"
    assert server.received[0].headers["last-event-id"] == "e-3"


def test_events_of_nobody(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: problem(404, "vm_unknown", "no such VM")
    assert velumctl("events").code == 4


def test_events_until_ctrl_c(server: ScriptedApi, velumctl: Velumctl) -> None:
    shown = []

    def stream() -> Iterator[bytes]:
        yield event(1, "vm.booted")
        wait_until(lambda: bool(shown), timeout=DEADLINE)

    server.answer = lambda _: Reply(200, stream(), "text/event-stream")
    with velumctl.start("events") as process:
        assert process.stdout is not None
        shown.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
    assert shown == [b"     1.250 vm.booted\n"]
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (INFO, "running"),
        (problem(404, "vm_not_created", "there is no VM"), "notcreated"),
        (problem(503, "vmm_unavailable", "there is no worker"), "gone"),
    ],
)
def test_wait(last: Any, state: str, server: ScriptedApi, velumctl: Velumctl) -> None:
    # Paused, then a server that is started anew, then what is waited for.
    script = iter([{**INFO, "state": "Paused"}, None, last])

    def answer(_: Request) -> Reply | None:
        document = next(script)
        return None if document is None else answers({"vm.info": document})(_)

    server.answer = answer
    assert velumctl("wait", "--state", "created", "--state", state) == (0, "", "")


def test_wait_gives_up(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = answers({"vm.info": INFO})
    outcome = velumctl("wait", "--state", "Paused", "--within", "0")
    assert outcome.code == 8
    assert "the VM is not paused after 0 s: it is running" in outcome.err


def test_wait_for_whom_one_may_not_see(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: problem(403, "forbidden", "no")
    assert velumctl("wait", "--state", "paused").code == 6


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--vm", "web-1", "logs"], "journalctl --unit=velum-vmm@web-1.service --lines=100"),
        (["logs", "-f", "--unit", "a.service"], "journalctl --unit=a.service --lines=100 --follow"),
        (["logs", "--file", "-l", "--lines", "5"], "tail -n 5 -- -l"),
        (["logs", "--file", "/l", "-f"], "tail -n 100 -F -- /l"),
    ],
)
def test_logs(arguments: list[str], command: str, tmp_path: Path, velumctl: Velumctl) -> None:
    name, _, rest = command.partition(" ")
    program = tmp_path / name
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    program.chmod(0o755)
    with velumctl.start(*arguments, env={"PATH": str(tmp_path), **PYTHON}) as process:
        out, _ = process.communicate(timeout=DEADLINE)
    assert out.decode().strip() == rest


def test_logs_without_what_shows_them(tmp_path: Path, velumctl: Velumctl) -> None:
    with velumctl.start("logs", "--file", "/l", env={"PATH": str(tmp_path), **PYTHON}) as process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert err.startswith(b"velumctl: tail cannot be run: No such file")


@pytest.mark.parametrize(
    ("arguments", "incomplete", "offered"),
    [
        (["info"], "--v", ["--vm"]),
        ([], "comp", ["completion"]),
        (["info", "--vm"], "web", ["web-1", "web-2"]),
        (["--vm"], "web-2", ["web-2"]),
        (["remove-device"], "_", ["_disk0", "__rng"]),
        (["cancel"], "j", ["j-2"]),
    ],
)
def test_completion(
    arguments: list[str], incomplete: str, offered: list[str], server: ScriptedApi
) -> None:
    server.answer = answers(
        {
            "vm.info": INFO,
            "vmm.list": [{"name": name} for name in ("web-1", "web-2", "db")],
            "vmm.jobs": [
                {"id": "j-1", "operation": "vm.boot", "state": "Failed", "submitted": 1.0},
                {"id": "j-2", "operation": "vm.boot", "state": "Running", "submitted": 1.0},
            ],
        }
    )
    shell = BashComplete(cli, {}, "velumctl", "_VELUMCTL_COMPLETE")
    found = shell.get_completions(["--socket", str(server.path), *arguments], incomplete)
    assert [each.value for each in found] == offered


def test_completion_where_no_server_is() -> None:
    shell = BashComplete(cli, {}, "velumctl", "_VELUMCTL_COMPLETE")
    for command in (["cancel"], ["remove-device"], ["--vm"]):
        assert shell.get_completions(["--socket", "/none", *command], "") == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"serial": {"mode": "Null"}, "console": {"mode": "Tty"}}, "neither the console nor"),
        (
            {"serial": {"mode": "File", "file": "/l"}, "console": {"mode": "Off"}},
            "the serial is written to /l: see `velumctl logs --file /l`",
        ),
        ({"serial": {"mode": "Pty"}, "console": {}}, "the serial has no pty before"),
        (
            {"serial": {"mode": "Socket", "socket": "/none"}, "console": {}},
            "the serial cannot be opened at /none: No such file",
        ),
    ],
)
def test_what_no_console_is(
    config: Any, message: str, server: ScriptedApi, velumctl: Velumctl
) -> None:
    server.answer = answers({"vm.info": {**INFO, "config": config}})
    outcome = velumctl("console")
    assert outcome.code == 5
    assert message in outcome.err
