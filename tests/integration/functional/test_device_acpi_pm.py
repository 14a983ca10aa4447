# SPDX-License-Identifier: Apache-2.0
"""ACPI fixed hardware: sleep and reset register, power management timer."""

import time

import pytest

import kvm_shim
from tests.support.ports import Ports, forged, payload_of

pytestmark = pytest.mark.kvm

SLEEP, TIMER = 0x600, 0x608
HZ = 3_579_545
WRAP = 1 << 32


@pytest.fixture
def device(vm):
    return vm.acpi_pm(SLEEP, TIMER)


@pytest.fixture
def ports(vm, device):  # noqa: ARG001 - its registers
    return Ports(vm, SLEEP)


def ticks(since, now):
    return (now - since) % WRAP


def at(state, nanoseconds):
    """Return the state with its timer standing at that age."""
    return forged(state, 0, nanoseconds.to_bytes(8, "little"))


def test_power_off(vm, ports):
    ports.write(0, 5 << 2 | 1 << 5)
    event = vm.next_event()
    assert (event.kind, event.source) == (kvm_shim.EventKind.POWER_OFF, "acpi_pm")


def test_reset(vm, ports):
    ports.write(0, 1)
    event = vm.next_event()
    assert (event.kind, event.source) == (kvm_shim.EventKind.RESET, "acpi_pm")


def test_other_sleep_types_and_the_wake_status_are_ignored(vm, ports):
    for value in range(0x100):
        if value != 1 and value & 0x3C != 0x34:
            ports.write(0, value)
    assert vm.next_event() is None
    assert ports.read(0) == 0


def test_timer_runs_at_its_frequency(ports):
    before = time.monotonic_ns()
    first = ports.read(8, 4)
    after = time.monotonic_ns()
    while time.monotonic_ns() - after < 20_000_000:
        pass
    between = time.monotonic_ns()
    second = ports.read(8, 4)
    end = time.monotonic_ns()
    shortest, longest = between - after, end - before
    assert shortest * HZ // 10**9 <= ticks(first, second) + 1
    assert ticks(first, second) <= longest * HZ // 10**9 + 1


def test_timer_is_read_only_and_readable_in_parts(device, ports):
    device.load(at(device.save(), 10**9))
    ports.write(8, 0xFFFFFFFF, 4)
    whole = ports.read(8, 4)
    assert HZ <= whole < HZ + 60 * HZ
    high = ports.read(10, 2)
    assert 0 <= high - (whole >> 16) <= 60 * HZ >> 16
    assert 0 <= ports.read(11) - (whole >> 24) <= 1


@pytest.mark.parametrize("seconds", [0, 1, 1200, 86_400 * 365 * 100])
def test_timer_counts_any_age(device, ports, seconds):
    """Twenty minutes wrap the counter; hours would overflow a product of 64 bits."""
    device.load(at(device.save(), seconds * 10**9))
    assert ticks(seconds * HZ % WRAP, ports.read(8, 4)) < 60 * HZ


def test_timer_goes_on_in_another_vm(device, ports):
    device.load(at(device.save(), 7 * 10**9))
    before = ports.read(8, 4)
    state = device.save()
    with kvm_shim.Vm() as other:
        other.acpi_pm(SLEEP, TIMER).load(state)
        assert ticks(before, Ports(other, TIMER).read(0, 4)) < 60 * HZ


def test_state_is_the_age_alone(device):
    assert len(payload_of(device.save())) == 8
    device.load(at(device.save(), (1 << 64) - 1))
    with pytest.raises(kvm_shim.ShimError):
        device.load(device.save()[:-1])


def test_failure_leaves_no_region_behind(vm):
    vm.debug_port(TIMER + 3)
    with pytest.raises(kvm_shim.ShimError, match="taken"):
        vm.acpi_pm(SLEEP, TIMER)
    vm.debug_port(SLEEP)
