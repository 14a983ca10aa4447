# SPDX-License-Identifier: Apache-2.0
"""What vm.resize makes of a configuration."""

from __future__ import annotations

import msgspec
import pytest

from ipc_protocol.config import CpusConfig, PayloadConfig, VmConfig
from ipc_protocol.config_devices import BalloonConfig, DiskConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmResize
from vmm_worker.resize import check_running, resized

MIB = 1 << 20
CONFIG = VmConfig(
    PayloadConfig(kernel="/k"),
    cpus=CpusConfig(boot_vcpus=2, max_vcpus=4),
    disks=(DiskConfig(path="/d", num_queues=2),),
    balloon=BalloonConfig(size=MIB),
)


def test_what_is_given_is_changed() -> None:
    changed = resized(
        CONFIG, VmResize(desired_vcpus=3, desired_ram=64 * MIB, desired_balloon=2 * MIB)
    )
    assert changed.cpus == CpusConfig(boot_vcpus=3, max_vcpus=4)
    assert changed.memory.size == 64 * MIB
    assert changed.balloon == BalloonConfig(size=2 * MIB)
    assert changed.disks == CONFIG.disks
    assert resized(CONFIG, VmResize()) == CONFIG


@pytest.mark.parametrize(
    ("request_", "pointer", "says"),
    [
        (VmResize(desired_vcpus=5), "/desired_vcpus", "/cpus/max_vcpus must be at least"),
        (VmResize(desired_vcpus=1), "/desired_vcpus", "/disks/0/num_queues must be at most"),
        (VmResize(desired_balloon=512 * MIB), "/desired_balloon", "less than the memory"),
        (VmResize(desired_vcpus=5, desired_ram=64 * MIB), "/desired_vcpus", "/cpus/max_vcpus"),
        (VmResize(desired_ram=4 * MIB, desired_balloon=4 * MIB), "/desired_balloon", "less than"),
    ],
)
def test_what_does_not_fit_is_refused(request_: VmResize, pointer: str, says: str) -> None:
    with pytest.raises(VmFailure) as caught:
        resized(CONFIG, request_)
    error = caught.value.error
    assert error.code is ErrorCode.INVALID_REQUEST
    assert [each.pointer for each in error.fields] == [pointer]
    assert says in error.message


def test_what_two_bring_about_together_is_told_of_the_whole() -> None:
    config = msgspec.structs.replace(CONFIG, balloon=BalloonConfig(size=64 * MIB))
    with pytest.raises(VmFailure) as caught:
        resized(config, VmResize(desired_vcpus=2, desired_ram=64 * MIB))
    assert [each.pointer for each in caught.value.error.fields] == [""]


def test_a_balloon_that_is_not_there_has_no_size() -> None:
    with pytest.raises(VmFailure, match="no balloon") as caught:
        resized(VmConfig(PayloadConfig(kernel="/k")), VmResize(desired_balloon=0))
    assert [each.pointer for each in caught.value.error.fields] == ["/desired_balloon"]


def test_a_booted_vm_keeps_its_vcpus_and_memory() -> None:
    check_running(CONFIG, VmResize(desired_vcpus=2, desired_ram=512 * MIB, desired_balloon=0))
    with pytest.raises(VmFailure) as caught:
        check_running(CONFIG, VmResize(desired_vcpus=3, desired_ram=MIB * 64, desired_balloon=0))
    error = caught.value.error
    assert error.code is ErrorCode.NOT_SUPPORTED
    assert [each.pointer for each in error.fields] == ["/desired_vcpus", "/desired_ram"]
