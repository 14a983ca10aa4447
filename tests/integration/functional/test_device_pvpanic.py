# SPDX-License-Identifier: Apache-2.0
"""The panic device: what a guest can tell, and where its register is."""

import errno
from functools import partial

import pytest

import kvm_shim
from kvm_shim import EventKind, Space
from kvm_shim.virtio.console import create_console
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.pvpanic import create_pvpanic
from kvm_shim.virtio.watchdog import create_watchdog
from tests.support.machines import GuestVm
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm

ECAM = 0xE800_0000
BAR = 0xC000_0000
ELSEWHERE = 0xD000_0000
ABOVE_4G = 0x12_3456_7000
ID, COMMAND, CLASS, BAR0, BAR1 = 0x00, 0x04, 0x08, 0x10, 0x14
MEMORY = 2
ONES = 0xFFFF_FFFF
PANICKED, CRASH_LOADED, SHUTDOWN = 1, 2, 4


@pytest.fixture
def pci(vm):
    return vm.pci(ECAM)


@pytest.fixture
def device(vm, pci):
    return create_pvpanic(vm, Place(pci, "__pvpanic", 3, BAR))


@pytest.fixture
def config(vm, device):  # noqa: ARG001 - its registers
    return Ports(vm, ECAM + (3 << 15), Space.MMIO)


def enable(config: Ports) -> None:
    config.write(COMMAND, MEMORY, 2)


def read(vm: kvm_shim.Vm, address: int, size: int = 1) -> int:
    return vm.bus_read(Space.MMIO, address, size)


def report(vm: kvm_shim.Vm, events: int, address: int = BAR) -> None:
    assert vm.bus_write(Space.MMIO, address, events, 1)


def texts(vm: kvm_shim.Vm) -> list[str]:
    found = []
    while (event := vm.next_event()) is not None:
        assert (event.kind, event.source) == (EventKind.PANICKED, "__pvpanic")
        found.append(event.text)
    return found


def test_it_is_what_linux_looks_for(config):
    assert config.read(ID, 4) == 0x0011_1B36
    assert config.read(CLASS, 4) >> 8 == 0x08_8000


def test_the_register_tells_the_events_and_takes_them(vm, config):
    assert read(vm, BAR) == 0xFF
    enable(config)
    assert read(vm, BAR) == PANICKED | CRASH_LOADED
    assert read(vm, BAR, 4) == PANICKED | CRASH_LOADED
    assert read(vm, BAR + 1) == 0
    report(vm, PANICKED)
    assert texts(vm) == ["the guest panicked"]


@pytest.mark.parametrize("events", [0, SHUTDOWN, 0xF8])
def test_unknown_events_are_not_told(vm, config, device, events):
    enable(config)
    report(vm, events)
    assert vm.bus_write(Space.MMIO, BAR + 1, PANICKED, 1)
    assert texts(vm) == []
    assert device.counters()["panics"] == 0


def test_a_guest_that_panics_all_the_time_is_told_once_a_second(vm, config, device):
    enable(config)
    for _ in range(1000):
        report(vm, CRASH_LOADED)
    told = texts(vm)
    assert told[0] == "the guest panicked and starts its crash kernel"
    assert len(told) < 10
    assert device.counters()["panics"] == 1000


def test_the_register_goes_where_the_guest_puts_it(vm, config):
    enable(config)
    for low, high in ((ELSEWHERE, 0), (ABOVE_4G & ONES, ABOVE_4G >> 32), (BAR, 0)):
        config.write(BAR0, low, 4)
        config.write(BAR1, high, 4)
        assert read(vm, high << 32 | low) == PANICKED | CRASH_LOADED
    assert read(vm, ELSEWHERE) == 0xFF
    config.write(COMMAND, 0, 2)
    assert read(vm, BAR) == 0xFF


def test_the_guest_learns_its_size(config):
    config.write(BAR0, ONES, 4)
    config.write(BAR1, ONES, 4)
    assert config.read(BAR0, 4) == ONES - 0xFFF | 4
    assert config.read(BAR1, 4) == ONES


def test_what_answers_already_goes_on_answering(vm, config):
    enable(config)
    config.write(BAR0, ECAM, 4)
    assert read(vm, ECAM, 4) == 0x0D57_8086
    assert read(vm, BAR) == 0xFF
    config.write(BAR0, BAR, 4)
    assert read(vm, BAR) == PANICKED | CRASH_LOADED


def test_a_guest_goes_on_after_its_panic():
    with GuestVm("panic") as guest:
        place = Place(guest.devices["pci"], "__pvpanic", 1, BAR)
        device = create_pvpanic(guest.vm, place)
        guest.run()
        event = guest.expect_event(EventKind.PANICKED, "__pvpanic")
        assert event.text == "the guest panicked and starts its crash kernel"
        guest.expect_power_off()
        guest.console.expect(b"events 03\nstill here\n")
        assert device.counters()["panics"] == 1


def test_state_moves_to_another_vm(config, device):
    enable(config)
    config.write(BAR0, ELSEWHERE, 4)
    with kvm_shim.Vm() as other:
        restored = create_pvpanic(other, Place(other.pci(ECAM), "__pvpanic", 3, BAR))
        restored.load(device.save())
        assert read(other, ELSEWHERE) == PANICKED | CRASH_LOADED
        assert restored.save() == device.save()


def test_forged_states_are_refused(vm, config, device):
    enable(config)
    state = device.save()
    with pytest.raises(kvm_shim.ShimError, match="byte 0x00") as caught:
        device.load(forged(state, ID, b"\0"))
    assert caught.value.errno == errno.EINVAL
    assert device.save() == state
    assert read(vm, BAR) == PANICKED | CRASH_LOADED


@pytest.mark.parametrize(("slot", "bar"), [(0, BAR), (32, BAR), (3, BAR + 16)])
def test_places_that_cannot_be(vm, pci, slot, bar):
    with pytest.raises(kvm_shim.ShimError) as caught:
        create_pvpanic(vm, Place(pci, "__pvpanic", slot, bar))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("device_id", ["", "x" * 32])
def test_ids_that_cannot_be(vm, pci, device_id):
    place = Place(pci, device_id, 3, BAR)
    kinds = (create_pvpanic, create_console, partial(create_watchdog, timeout_ms=1000))
    for create in kinds:
        with pytest.raises(kvm_shim.ShimError, match="1 to 31 characters") as caught:
            create(vm, place)
        assert caught.value.errno == errno.EINVAL


def test_a_slot_has_one_device(vm, pci, device):  # noqa: ARG001 - it is there
    with pytest.raises(kvm_shim.ShimError, match="taken") as caught:
        create_pvpanic(vm, Place(pci, "other", 3, BAR))
    assert caught.value.errno == errno.EEXIST
