# SPDX-License-Identifier: Apache-2.0
"""What dies is started again, and who had nothing to do with it does not notice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.processes import eventually
from tests.support.systemd import (
    API,
    LIMIT,
    Client,
    Journal,
    UnitVm,
    drop_in,
    main_pid,
    show,
    systemctl,
    undisturbed,
)

pytestmark = pytest.mark.systemd

WATCHDOG = "[Service]\nWatchdogSec=20\n"
"""Soon enough for a test, and not so soon that a slow machine fails of itself."""


def replaced(unit: str, pid: int) -> bool:
    """Tell whether the service has another process."""
    return main_pid(unit) not in (0, pid) and show(unit, "ActiveState") == "active"


def test_a_killed_api_costs_each_client_at_most_one_request(vms: Callable[..., UnitVm]) -> None:
    vm = vms("steady", guest="count").running()
    with (
        undisturbed(vm),
        Client("steady", keep=True) as kept,
        Client("steady", keep=False) as fresh,
    ):
        kept.expect_answers()
        fresh.expect_answers()
        pid = main_pid(API)
        systemctl("kill", "--signal=KILL", API)
        eventually(lambda: replaced(API, pid), "another API", timeout=LIMIT)
        kept.expect_answers()
        fresh.expect_answers()
    for client in (kept, fresh):
        assert len(client.failures) + client.retries <= 1, client.failures
        assert set(client.answers) == {200}


def test_a_restart_of_the_api_drops_no_connection(vms: Callable[..., UnitVm]) -> None:
    vm = vms("steady", guest="count").running()
    with (
        undisturbed(vm),
        Client("steady", keep=True) as kept,
        Client("steady", keep=False) as fresh,
    ):
        for _ in range(2):
            kept.expect_answers()
            fresh.expect_answers()
            pid = main_pid(API)
            systemctl("restart", API)
            assert main_pid(API) not in (0, pid)
        kept.expect_answers()
        fresh.expect_answers()
    for client in (kept, fresh):
        assert client.failures == []
        assert set(client.answers) == {200}


def test_a_killed_worker_comes_back_with_its_vm(vms: Callable[..., UnitVm]) -> None:
    vm = vms("victim", guest="count").running()
    other = vms("other", guest="count").running()
    with undisturbed(other):
        pid = vm.pid
        os.kill(pid, signal.SIGKILL)
        answers = []

        def back() -> bool:
            answer = vm.info()
            answers.append(answer.status)
            return answer.status == 200 and answer.json["state"] == "Running" and vm.pid != pid

        vm.wait_until(back, "the VM runs again")
        vm.expect_at_work()
    assert 503 in answers, answers
    assert vm.info().json["boots"] == 1
    assert "Main process exited, code=killed, status=9/KILL" in vm.journal.text()


def test_a_vm_stays_down_after_a_crash_if_it_is_to(vms: Callable[..., UnitVm]) -> None:
    vm = vms("fragile", guest="count", host={"restart": False}).running()
    pid = vm.pid
    os.kill(pid, signal.SIGKILL)
    vm.wait_until(lambda: replaced(vm.unit, pid), "the worker is back")
    vm.wait_until(lambda: vm.info().status != 503, "the worker answers")
    vm.journal.wait_for(r"not booted")
    assert vm.info().status != 200 or vm.info().json["state"] != "Running"
    vm.switch_off()
    systemctl("restart", vm.unit)
    vm.wait_for("Running")


@pytest.mark.parametrize("victim", ["worker", "api"])
def test_who_hangs_is_seen_by_the_watchdog(vms: Callable[..., UnitVm], victim: str) -> None:
    template = "velum-vmm@.service" if victim == "worker" else API
    drop_in(template, "test-watchdog", WATCHDOG)
    try:
        other = vms("other", guest="count").running()
        vm = vms("hung", guest="count").running()
        systemctl("restart", API)
        unit = vm.unit if victim == "worker" else API
        journal = Journal(unit)
        with undisturbed(*([other] if victim == "worker" else [other, vm])):
            pid = main_pid(unit)
            os.kill(pid, signal.SIGSTOP)
            journal.wait_for("Watchdog timeout")
            eventually(lambda: replaced(unit, pid), "another process", timeout=LIMIT)
            vm.wait_for("Running")
    finally:
        drop_in(template, "test-watchdog", None)
