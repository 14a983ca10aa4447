# SPDX-License-Identifier: Apache-2.0
"""The keyboard controller's ports: nothing is there but the reset line."""

import pytest

import kvm_shim
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm


@pytest.fixture
def ports(vm):
    vm.i8042()
    return Ports(vm, 0x60)


def test_no_byte_is_ever_there_and_commands_are_taken_at_once(ports):
    for command in (0x20, 0xAA, 0xD4, 0xF0, 0xFF):
        ports.write(4, command)
        assert ports.read(4) == 0
        assert ports.read(0) == 0


def test_port_b_shows_an_expired_timer_and_no_nmi(ports):
    ports.write(1, 0xFF)
    assert ports.read(1) == 0x20


def test_ports_without_a_register_read_all_ones(ports):
    assert ports.read(2) == 0xFF
    assert ports.read(3) == 0xFF
    assert ports.read(0, 4) == 0xFFFF2000


def test_reset_command_is_reported_once(vm, ports):
    ports.write(0, 0xFE)  # a byte for the keyboard, no command
    ports.write(3, 0xFE)
    assert vm.next_event() is None
    ports.write(4, 0xFE)
    ports.write(4, 0xFE)
    event = vm.next_event()
    assert event is not None
    assert (event.kind, event.source) == (kvm_shim.EventKind.RESET, "i8042")
    assert vm.next_event() is None


def test_wide_write_reaches_the_command_port(vm, ports):
    ports.write(1, 0xFE000000, 4)
    assert vm.next_event().kind is kvm_shim.EventKind.RESET


def test_state_is_empty(vm):
    device = vm.i8042()
    state = device.save()
    device.load(state)
    with pytest.raises(kvm_shim.ShimError, match="i8042 state"):
        device.load(forged(state, 0, b"\1"))


def test_second_controller_is_refused(vm):
    vm.i8042()
    with pytest.raises(kvm_shim.ShimError, match="taken"):
        vm.i8042()
