# SPDX-License-Identifier: Apache-2.0
"""The soak, for half a minute: ``make soak`` has the long one."""

from pathlib import Path

import pytest

from tests.integration.soak.host import ProcessHost
from tests.integration.soak.model import VmModel
from tests.integration.soak.run import soak
from tests.integration.soak.vms import Vms

pytestmark = pytest.mark.kvm

SECONDS = 25.0
VMS = 6


def test_vms_come_and_go_at_random_and_leave_nothing(tmp_path: Path) -> None:
    names = [f"soak-{number}" for number in range(VMS)]
    models = [VmModel(name) for name in names]
    with ProcessHost(tmp_path, names, configured=()) as host:
        vms = Vms(host, models)
        outcome = soak(host, vms, SECONDS, actors=3, seed=5)
    assert outcome.leaks == []
    assert outcome.done["kill -9"]
    assert outcome.done["vm.boot"]
    assert outcome.done["vmm.list"]
