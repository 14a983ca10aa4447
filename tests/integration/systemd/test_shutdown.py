# SPDX-License-Identifier: Apache-2.0
"""The host goes down: guests hear of it, have their time, and are stopped all at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.systemd import UnitVm, systemctl

pytestmark = pytest.mark.systemd


def test_guests_get_the_power_button_a_deadline_and_an_end(vms: Callable[..., UnitVm]) -> None:
    polite = vms("polite", guest="button")
    polite.start()
    polite.wait_until(lambda: "button ready" in polite.said(), "the guest waits for its button")
    deaf = [vms(f"deaf-{number}", guest="count").running() for number in range(2)]
    try:
        # All that a power-off does but the last step, which would end this test as well.
        systemctl("start", "--job-mode=replace-irreversibly", "shutdown.target")
        for vm in (polite, *deaf):
            vm.wait_for_end()
        assert "flags 08" in polite.said()
        for vm in deaf:
            assert "did not power off" in vm.journal.text()
    finally:
        systemctl("start", "multi-user.target")
