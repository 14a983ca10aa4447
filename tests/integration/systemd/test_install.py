# SPDX-License-Identifier: Apache-2.0
"""From the package to a VM: what an operator does, and sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import eventually
from tests.support.systemd import (
    CONFIGS,
    LIMIT,
    SOCKET,
    UnitVm,
    installed_guest,
    output,
    processes,
    show,
    systemctl,
)
from tests.support.users import connect_as

pytestmark = pytest.mark.systemd

NOBODY = 65534


@pytest.fixture
def operator() -> Iterator[str]:
    """Return a user of the group of operators."""
    output("useradd", "--no-create-home", "--groups", "velum", "olga")
    yield "olga"
    output("userdel", "olga")


def curl(operation: str, *options: str, host: str = "localhost", user: str = "root") -> str:
    """Run curl as a user; return what it prints, and the status at the end."""
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}"]
    command += [*options, "--unix-socket", str(SOCKET), f"http://{host}/api/v1/{operation}"]
    return output("runuser", "-u", user, "--", *command, check=False)


def test_nothing_runs_that_nobody_asked_for() -> None:
    assert output("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "velum").strip() == "ii"
    assert output("dpkg", "--audit") == ""
    assert processes() == []
    assert not SOCKET.exists()
    for unit in ("velum-api.socket", "velum-api.service", "velum.target"):
        assert show(unit, "LoadState") == "loaded"
        assert show(unit, "ActiveState") == "inactive"


def test_one_command_and_one_curl_make_a_vm(operator: str) -> None:
    config = {"payload": {"kernel": str(installed_guest("count"))}, "memory": {"size": 16 << 20}}
    file = CONFIGS / "web-1.json"
    file.write_text(json.dumps(config))
    try:
        systemctl("enable", "--now", "velum-api.socket", "velum-vmm@web-1")
        assert systemctl("is-enabled", "velum-vmm@web-1").strip() == "enabled"

        def running() -> bool:
            body, _, status = curl("vm.info", host="web-1", user=operator).rpartition("\n")
            return status == "200" and json.loads(body)["state"] == "Running"

        eventually(running, "the VM runs", timeout=LIMIT)
        with pytest.raises(ConnectionError, match="Permission denied"):
            connect_as(SOCKET, NOBODY)
        assert curl("vm.delete", "--request", "PUT", host="web-1").endswith("204")
    finally:
        systemctl("disable", "--now", "velum-vmm@web-1")
        file.unlink()


def test_the_status_says_what_the_vm_does(vms: Callable[..., UnitVm]) -> None:
    vm = vms("seen", guest="count").running()

    def told(line: str) -> None:
        vm.wait_until(lambda: line in systemctl("status", vm.unit, check=False), line)

    told('Status: "seen: Running, 1 vCPU, 16 MiB, boot 1"')
    assert vm.request("PUT", "vm.pause").status == 204
    told('Status: "seen: Paused, 1 vCPU, 16 MiB, boot 1"')
    assert "listening at /run/velum/seen/vmm.ipc" in vm.journal.text()
    assert "count " not in vm.journal.text()
    assert "serving /run/velum/api.sock" in show("velum-api.service", "StatusText")


def test_the_journal_has_the_serial_console_if_asked(vms: Callable[..., UnitVm]) -> None:
    kernel = str(installed_guest("chatter"))
    vm = vms("heard")
    config = {"payload": {"kernel": kernel, "cmdline": "lines=3"}, "memory": {"size": 16 << 20}}
    vm.file.write_text(json.dumps(config | {"host": {"console": "journal"}}))
    vm.start()
    vm.journal.wait_for("line 3 of what nobody may want to read")


def test_each_vm_is_in_a_cgroup_with_its_limits(vms: Callable[..., UnitVm]) -> None:
    host = {"memory_max": "300M", "cpu_quota": 150, "cpu_weight": 50, "tasks_max": 77}
    given = vms("limited", guest="count", host=host).running()
    usual = vms("usual", guest="count", memory=32).running()

    def limit(vm: UnitVm, name: str) -> str:
        group = Path("/sys/fs/cgroup") / show(vm.unit, "ControlGroup").lstrip("/")
        return (group / name).read_text().strip()

    assert show(given.unit, "Slice") == "velum.slice"
    assert show(given.unit, "ControlGroup") != show(usual.unit, "ControlGroup")
    assert limit(given, "memory.max") == str(300 << 20)
    assert limit(given, "cpu.max") == "150000 100000"
    assert limit(given, "cpu.weight") == "50"
    assert limit(given, "pids.max") == "77"
    # The guest's RAM and 256 MiB, a processor for each vCPU and one more.
    assert limit(usual, "memory.max") == str((32 + 256) << 20)
    assert limit(usual, "cpu.max") == "200000 100000"
