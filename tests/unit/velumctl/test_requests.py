# SPDX-License-Identifier: Apache-2.0
"""What each command asks the server for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_api import Reply, ScriptedApi, problem
from tests.support.velumctl import Velumctl

REQUESTS: list[tuple[list[str], str, Any]] = [
    (["boot"], "vm.boot", None),
    (["pause"], "vm.pause", None),
    (["resume"], "vm.resume", None),
    (["power-button"], "vm.power-button", None),
    (["nmi"], "vm.nmi", None),
    (["reboot"], "vm.reboot", None),
    (["shutdown"], "vm.shutdown", None),
    (["delete"], "vm.delete", None),
    (["shutdown-vmm"], "vmm.shutdown", None),
    (["cancel", "j-1"], "vmm.cancel", {"id": "j-1"}),
    (["create", "--kernel", "/k"], "vm.create", {"payload": {"kernel": "/k"}}),
    (
        ["create", "--kernel", "/k", "--disk", "path=/a", "--disk", "path=/b", "--watchdog"],
        "vm.create",
        {
            "payload": {"kernel": "/k"},
            "disks": [{"path": "/a"}, {"path": "/b"}],
            "watchdog": True,
        },
    ),
    (["create", "--kernel", "/k", "--dry-run"], "vm.create?dry_run=true", {}),
    (
        ["create", "--kernel", "/k", "--lenient", "--dry-run"],
        "vm.create?dry_run=true&compat=lenient",
        {},
    ),
    (
        ["add-disk", "path=/d,readonly=on"],
        "vm.add-disk",
        {"path": "/d", "readonly": True},
    ),
    (["add-net", "tap=t0"], "vm.add-net", {"tap": "t0"}),
    (["add-pmem", "file=/p,size=2M"], "vm.add-pmem", {"file": "/p", "size": 2 << 20}),
    (["add-vsock", "cid=3,socket=/v"], "vm.add-vsock", {"cid": 3, "socket": "/v"}),
    (["add-fs", "tag=t,socket=/s"], "vm.add-fs", {"tag": "t", "socket": "/s"}),
    (["add-vdpa", "path=/v,num_queues=2"], "vm.add-vdpa", {"path": "/v", "num_queues": 2}),
    (["add-device", "path=/d,iommu=on"], "vm.add-device", {"path": "/d", "iommu": True}),
    (["add-user-device", "socket=/s"], "vm.add-user-device", {"socket": "/s"}),
    (
        ["add-generic-vhost-user", "socket=/s,device_type=26,queue_sizes=[64,128]"],
        "vm.add-generic-vhost-user",
        {"socket": "/s", "device_type": 26, "queue_sizes": [64, 128]},
    ),
    (["remove-device", "_disk0"], "vm.remove-device", {"id": "_disk0"}),
    (
        ["resize", "--cpus", "2", "--memory", "1G", "--balloon", "0"],
        "vm.resize",
        {"desired_vcpus": 2, "desired_ram": 1 << 30, "desired_balloon": 0},
    ),
    (
        ["resize-disk", "--disk", "d", "--size", "4M"],
        "vm.resize-disk",
        {"id": "d", "desired_size": 4 << 20},
    ),
    (
        ["resize-zone", "--id", "z", "--size", "4M"],
        "vm.resize-zone",
        {"id": "z", "desired_ram": 4 << 20},
    ),
    (["snapshot", "file:///s"], "vm.snapshot", {"destination_url": "file:///s"}),
    (["coredump", "file:///c"], "vm.coredump", {"destination_url": "file:///c"}),
    (
        ["restore", "source_url=file:///s,resume=on"],
        "vm.restore",
        {"source_url": "file:///s", "resume": True},
    ),
    (
        ["send-migration", "destination_url=unix:/m,local=on"],
        "vm.send-migration",
        {"destination_url": "unix:/m", "local": True},
    ),
    (
        ["receive-migration", "receiver_url=unix:/m"],
        "vm.receive-migration",
        {"receiver_url": "unix:/m"},
    ),
]


@pytest.mark.parametrize(("arguments", "target", "body"), REQUESTS, ids=lambda each: str(each)[:40])
def test_an_operation(
    arguments: list[str], target: str, body: Any, server: ScriptedApi, velumctl: Velumctl
) -> None:
    outcome = velumctl("--vm", "web-1", *arguments)
    assert outcome == (0, "", "")
    (request,) = server.received
    assert (request.method, request.target) == ("PUT", f"/api/v1/{target}")
    assert request.headers["host"] == "web-1"
    if body == {}:  # Of what is not the subject here.
        assert request.body
    else:
        assert request.body == body


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["ping", "--json"], "vmm.ping"),
        (["info", "--json"], "vm.info"),
        (["counters", "--json"], "vm.counters"),
        (["list", "--json"], "vmm.list"),
        (["jobs", "--json"], "vmm.jobs"),
    ],
)
def test_a_read(arguments: list[str], target: str, server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: Reply(200, b'{"a":[1]}')
    outcome = velumctl(*arguments)
    assert (outcome.code, json.loads(outcome.out)) == (0, {"a": [1]})
    (request,) = server.received
    assert (request.method, request.target) == ("GET", f"/api/v1/{target}")
    assert request.headers["host"] == "localhost"


def test_each_request_has_an_id_of_its_own(server: ScriptedApi, velumctl: Velumctl) -> None:
    for _ in range(2):
        velumctl("pause")
    first, second = (each.headers["x-request-id"] for each in server.received)
    assert first.startswith("velumctl-")
    assert first != second


def test_the_vm_and_the_socket_of_the_environment(
    server: ScriptedApi, velumctl: Velumctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELUM_VM", "web-2")
    velumctl("pause")
    velumctl("pause", "--vm", "web-3")
    assert [each.headers["host"] for each in server.received] == ["web-2", "web-3"]
    monkeypatch.setenv("VELUM_API_SOCKET", str(server.path))
    from velumctl.cli import Target  # noqa: PLC0415 - what a command without options has

    assert Target().socket == str(server.path)


def test_where_a_plugged_device_is(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: Reply(200, b'{"id":"_disk2","bdf":"0000:00:05.0"}')
    assert json.loads(velumctl("add-disk", "path=/d").out)["bdf"] == "0000:00:05.0"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 3),
        (403, 6),
        (404, 4),
        (409, 5),
        (413, 3),
        (415, 3),
        (422, 1),
        (429, 5),
        (500, 1),
        (501, 1),
        (503, 7),
        (504, 8),
    ],
)
def test_exit_codes(status: int, code: int, server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: problem(status, "some_code", "it went wrong", later=1)
    outcome = velumctl("pause")
    assert outcome == (code, "", "velumctl: it went wrong\n")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'["Error from API", "VM is not running"]', "Error from API\n  because: VM is not runni"),
        (b"", "the server answered 500"),
        (b"<html>", "the server answered 500"),
        (b'{"detail": "\xff"}', "the server answered 500"),
        (b"[]", "the server answered 500"),
    ],
)
def test_an_error_of_another_server(
    body: bytes, shown: str, server: ScriptedApi, velumctl: Velumctl
) -> None:
    server.answer = lambda _: Reply(500, body)
    outcome = velumctl("pause")
    assert outcome.code == 1
    assert outcome.err.startswith(f"velumctl: {shown}")


@pytest.mark.parametrize(
    ("command", "body"),
    [("info", b"<html>"), ("jobs", b'[{"id":"j","later":1}]'), ("list", b"")],
)
def test_an_answer_that_is_not_understood(
    command: str, body: bytes, server: ScriptedApi, velumctl: Velumctl
) -> None:
    server.answer = lambda _: Reply(200, body)
    outcome = velumctl(command)
    assert outcome.code == 1
    assert outcome.err.startswith("velumctl: the server's answer is not understood: ")


def test_the_file_is_shown_where_it_is_wrong(
    tmp_path: Path, server: ScriptedApi, velumctl: Velumctl
) -> None:
    path = tmp_path / "web.toml"
    path.write_text("[memory]\nsize = 1000\n")
    errors = [{"pointer": "/memory/size", "message": "is too small"}]
    server.answer = lambda _: problem(400, "invalid_config", "not valid", errors=errors)
    outcome = velumctl("create", "--from", path)
    assert outcome.code == 3
    assert f"--> {path}:2:1: /memory/size" in outcome.err
    assert "   | ^^^^^^^^^^^ is too small" in outcome.err


def test_what_a_lenient_server_passed_over(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: Reply(204, headers={"X-Velum-Ignored": "/a%20b, /memory/c"})
    outcome = velumctl("create", "--kernel", "/k", "--lenient")
    assert outcome == (0, "", "ignored: /a b, /memory/c\n")


def test_a_server_that_hangs_up(server: ScriptedApi, velumctl: Velumctl) -> None:
    server.answer = lambda _: None
    outcome = velumctl("pause")
    assert outcome.code == 7
    assert "cannot be reached: Remote end closed connection" in outcome.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_server_that_one_may_not_reach(server: ScriptedApi, velumctl: Velumctl) -> None:
    assert velumctl("pause").code == 0
    server.path.chmod(0o600)
    os.seteuid(65534)
    try:
        outcome = velumctl("pause")
    finally:
        os.seteuid(0)
    assert outcome.code == 6
    assert f"you may not connect to {server.path}" in outcome.err


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - here alone a server is deaf

    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen()
        outcome = Velumctl(tmp_path / "deaf.sock")("--timeout", "0.1", "pause")
    assert outcome.code == 8
    assert "did not answer in time" in outcome.err
