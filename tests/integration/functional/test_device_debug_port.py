# SPDX-License-Identifier: Apache-2.0
"""Port 0x80: a record of the first 64 progress codes."""

import time

import pytest

import kvm_shim
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm

PORT = 0x80
KEPT = 64


@pytest.fixture
def device(vm):
    return vm.debug_port(PORT)


@pytest.fixture
def ports(vm, device):  # noqa: ARG001 - its registers
    return Ports(vm, PORT)


def test_codes_are_stamped_in_order(device, ports):
    assert device.stamps() == []
    before = time.monotonic_ns()
    for code in (0x40, 0x41, 0xFF):
        ports.write(0, code)
    after = time.monotonic_ns()
    stamps = device.stamps()
    assert [stamp.code for stamp in stamps] == [0x40, 0x41, 0xFF]
    times = [stamp.time_ns for stamp in stamps]
    assert [before, *times, after] == sorted([before, *times, after])


def test_only_the_first_are_kept(device, ports):
    for code in range(KEPT + 10):
        ports.write(0, code)
    assert [stamp.code for stamp in device.stamps()] == list(range(KEPT))


def test_reads_are_all_ones(ports):
    ports.write(0, 7)
    assert ports.read(0) == 0xFF


def test_wide_write_is_one_code(device, ports):
    ports.write(0, 0x12345678, 4)
    assert [stamp.code for stamp in device.stamps()] == [0x78]


def test_record_moves_to_another_vm(device, ports):
    ports.write(0, 1)
    ports.write(0, 2)
    with kvm_shim.Vm() as other:
        restored = other.debug_port(PORT)
        restored.load(device.save())
        assert restored.stamps() == device.stamps()
        Ports(other, PORT).write(0, 3)
        assert [stamp.code for stamp in restored.stamps()] == [1, 2, 3]


def test_times_of_another_host_may_lie_ahead(device, ports):
    ports.write(0, 1)
    device.load(forged(device.save(), 4, b"\xff" * 8))
    ports.write(0, 2)
    device.load(device.save())
    assert [stamp.code for stamp in device.stamps()] == [1, 2]


def test_forged_count_is_refused(device, ports):
    ports.write(0, 1)
    stamps = device.stamps()
    with pytest.raises(kvm_shim.ShimError, match="65 stamps"):
        device.load(forged(device.save(), 0, (KEPT + 1).to_bytes(4, "little")))
    assert device.stamps() == stamps
