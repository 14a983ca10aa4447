# SPDX-License-Identifier: Apache-2.0
"""The Generic Event Device's register."""

import errno

import pytest

import kvm_shim
from kvm_shim import GedFlag, Space
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm

GPA = 0xE700_0000
GSI = 5


@pytest.fixture
def ged(vm):
    return vm.ged(GPA, GSI)


@pytest.fixture
def ports(vm, ged):  # noqa: ARG001 - its registers
    return Ports(vm, GPA, Space.MMIO)


def test_reading_clears(ged, ports):
    assert ports.read(0) == 0
    ged.notify(GedFlag.POWER)
    assert ports.read(0) == GedFlag.POWER
    assert ports.read(0) == 0


def test_flags_gather_until_they_are_read(ged, ports):
    ged.notify(GedFlag.CPU)
    ged.notify(GedFlag.PCI)
    ged.notify(GedFlag.CPU)
    assert ports.read(0) == GedFlag.CPU | GedFlag.PCI


def test_writes_are_ignored(ged, ports):
    ged.notify(GedFlag.MEMORY)
    ports.write(0, 0)
    ports.write(0, 0xFFFFFFFFFFFFFFFF, 8)
    assert ports.read(0) == GedFlag.MEMORY


def test_wide_read_finds_one_byte(ged, ports):
    ged.notify(GedFlag.CPU)
    assert ports.read(0, 4) == 0xFFFFFF00 | GedFlag.CPU
    assert ports.read(0) == 0


@pytest.mark.parametrize("flags", [0, 0x10, 0xFF])
def test_unknown_flags_are_refused(ged, ports, flags):
    with pytest.raises(kvm_shim.ShimError) as caught:
        ged.notify(flags)
    assert caught.value.errno == errno.EINVAL
    assert ports.read(0) == 0


def test_pending_flags_move_to_another_vm(ged):
    ged.notify(GedFlag.POWER)
    state = ged.save()
    with kvm_shim.Vm() as other:
        other.ged(GPA, GSI).load(state)
        assert Ports(other, GPA, Space.MMIO).read(0) == GedFlag.POWER


def test_forged_state_is_refused(ged, ports):
    ged.notify(GedFlag.CPU)
    with pytest.raises(kvm_shim.ShimError, match="flags 0x18"):
        ged.load(forged(ged.save(), 0, b"\x18"))
    assert ports.read(0) == GedFlag.CPU


def test_interrupt_must_be_a_pin(vm):
    with pytest.raises(kvm_shim.ShimError, match="interrupt 24"):
        vm.ged(GPA, 24)
