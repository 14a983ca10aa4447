# SPDX-License-Identifier: Apache-2.0
"""The host goes down: guests hear of it, have their time, and are stopped all at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.systemd import Journal, UnitVm, drop_in, systemctl

pytestmark = pytest.mark.systemd


def test_guests_get_the_power_button_a_deadline_and_an_end(vms: Callable[..., UnitVm]) -> None:
    polite = vms("polite", guest="button")
    polite.start()
    polite.wait_until(lambda: "button ready" in polite.said(), "the guest waits for its button")
    deaf = [vms(f"deaf-{number}", guest="count").running() for number in range(2)]
    journal = Journal("velum-vmm@deaf-*.service")
    drop_in("shutdown.target", "test-manual", "[Unit]\nRefuseManualStart=no\n")
    try:
        # All that a power-off does but the last step, which would end this test as well.
        systemctl("start", "--job-mode=replace-irreversibly", "shutdown.target")
        for vm in (polite, *deaf):
            vm.wait_for_end()
    finally:
        drop_in("shutdown.target", "test-manual", None)
        systemctl("start", "multi-user.target")
    assert "flags 08" in polite.said()
    assert "did not power off" not in polite.journal.text()
    # Each has its whole time, and no other waits for the end of it.
    told = [line for line in journal.text().splitlines() if "SIGTERM" in line or "did not" in line]
    assert [line.partition(":")[0] for line in told[:2]] == ["SIGTERM", "SIGTERM"], told
    assert len(told) == 4, told
