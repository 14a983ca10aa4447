# SPDX-License-Identifier: Apache-2.0
"""The transport that all virtio devices share: registers, status, BAR, saved state."""

import errno

import pytest

import kvm_shim
from kvm_shim import EventKind, ShimError, Space
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.rng import create_rng
from tests.support.ports import Ports, forged
from tests.support.rng import RNG_SLOT, driver_of

pytestmark = pytest.mark.kvm

BAR = 0xC0180000
BAR_SIZE = 0x80000
ONES = 0xFFFF_FFFF
COMMAND, BAR0, BAR1 = 0x04, 0x10, 0x14
DFSELECT, DF, GFSELECT, GF, STATUS, GENERATION = 0x00, 0x04, 0x08, 0x0C, 0x14, 0x15
CONFIG_VECTOR, NUM_QUEUES, QUEUE_SELECT, QUEUE_SIZE = 0x10, 0x12, 0x16, 0x18
QUEUE_VECTOR, QUEUE_ENABLE, QUEUE_OFFSET, QUEUE_DESC, QUEUE_USED = 0x1A, 0x1C, 0x1E, 0x20, 0x30
ISR, NOTIFY, MSIX_TABLE, MSIX_PBA = 0x2000, 0x6000, 0x8000, 0x48000
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80
RUNNING = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
INDIRECT, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
OFFERED = INDIRECT | EVENT_IDX | VERSION_1
NO_VECTOR = 0xFFFF


@pytest.fixture
def rng(rng_guest):
    return rng_guest.devices["rng"]


@pytest.fixture
def pci(rng_guest):
    return Ports(rng_guest.vm, 0xE800_0000 + (RNG_SLOT << 15), Space.MMIO)


@pytest.fixture
def bar(rng_guest, rng_driver):  # noqa: ARG001 - which has it decode
    return Ports(rng_guest.vm, BAR, Space.MMIO)


# -- configuration space -----------------------------------------------------------


def test_it_is_a_modern_device(pci):
    assert pci.read(0, 4) == 0x1044_1AF4
    assert pci.read(8, 4) == 0xFF0000_01
    assert pci.read(0x2C, 4) >> 16 >= 0x40
    assert pci.read(0x3D) == 0  # no INTx


def test_the_structures_lie_where_cloud_hypervisor_has_them(pci):
    found = {}
    at = pci.read(0x34)
    while at:
        if pci.read(at) == 9:
            found[pci.read(at + 3)] = (pci.read(at + 8, 4), pci.read(at + 12, 4), pci.read(at + 2))
            if pci.read(at + 3) == 2:
                assert pci.read(at + 16, 4) == 4
        else:
            assert pci.read(at) == 0x11
            found["msix"] = (pci.read(at + 2, 2), pci.read(at + 4, 4), pci.read(at + 8, 4))
        at = pci.read(at + 1)
    assert found == {
        "msix": (1, MSIX_TABLE, MSIX_PBA),
        1: (0, 0x38, 16),
        2: (NOTIFY, 0x1000, 20),
        3: (ISR, 1, 16),
        4: (0x4000, 0x1000, 16),
        5: (0, 0, 20),
    }


def test_the_bar_is_sized_as_pci_does(pci):
    assert pci.read(BAR0, 4) == BAR | 4
    pci.write(BAR0, ONES, 4)
    pci.write(BAR1, ONES, 4)
    assert pci.read(BAR0, 8) == (1 << 64) - BAR_SIZE | 4


def test_the_bar_answers_while_memory_is_enabled(rng_guest, pci, bar):
    assert bar.read(NUM_QUEUES, 2) == 1
    pci.write(COMMAND, 0, 2)
    assert bar.read(NUM_QUEUES, 2) == 0xFFFF
    assert not rng_guest.vm.bus_write(Space.MMIO, BAR + NOTIFY, 0, 2)
    pci.write(COMMAND, 2, 2)
    assert bar.read(NUM_QUEUES, 2) == 1


@pytest.mark.parametrize("address", [0xD000_0000, 0x1000_0000, 5 << 32, 0xFFFF_FFFF_FFF8_0000])
def test_the_bar_goes_where_the_guest_puts_it(rng_guest, pci, bar, rng_driver, address):
    (queue,) = rng_driver.start(0, [8])
    pci.write(BAR0, address & ONES, 4)
    pci.write(BAR1, address >> 32, 4)
    assert bar.read(NUM_QUEUES, 2) == 0xFFFF
    assert Ports(rng_guest.vm, address, Space.MMIO).read(STATUS) == RUNNING
    at = rng_driver.allocate(64)
    queue.add(writable=[(at, 64)])
    rng_guest.vm.bus_write(Space.MMIO, address + NOTIFY, 0, 2)
    assert queue.wait()[1] == 64


@pytest.mark.parametrize("address", [0xE800_0000, 0xE700_0000 - BAR_SIZE // 2, BAR - BAR_SIZE])
def test_a_bar_on_another_device_is_not_there(rng_guest, pci, bar, address):
    """The other device goes on, and so does this one when it is somewhere sensible."""
    other = create_rng(rng_guest.vm, rng_guest.place("other", RNG_SLOT - 1))
    driver_of(rng_guest, RNG_SLOT - 1)
    pci.write(BAR0, address & ~(BAR_SIZE - 1), 4)
    gone = "is taken" in " ".join(rng_guest.logged())
    assert gone == (address % BAR_SIZE == 0)
    assert bar.read(NUM_QUEUES, 2) == 0xFFFF
    assert pci.read(0, 4) == 0x1044_1AF4
    assert Ports(rng_guest.vm, BAR - BAR_SIZE, Space.MMIO).read(NUM_QUEUES, 2) == 1
    pci.write(BAR0, BAR, 4)
    assert bar.read(NUM_QUEUES, 2) == 1
    assert other.counters()["errors"] == 0


def test_the_window_in_the_configuration_space(pci, rng_driver, rng_guest):
    (queue,) = rng_driver.start(0, [8])
    at = pci.read(0x34)
    while pci.read(at) != 9 or pci.read(at + 3) != 5:
        at = pci.read(at + 1)

    def window(offset, size):
        pci.write(at + 8, offset, 4)
        pci.write(at + 12, size, 4)

    window(NUM_QUEUES, 2)
    assert pci.read(at + 16, 2) == 1
    window(STATUS, 1)
    assert pci.read(at + 16) == RUNNING
    queue.add(writable=[(rng_driver.allocate(64), 64)])
    window(NOTIFY, 2)
    pci.write(at + 16, 0, 2)
    assert queue.wait()[1] == 64
    for offset, size in ((STATUS, 3), (STATUS, 0), (1, 2), (BAR_SIZE, 4), (ONES, 1)):
        window(offset, size)
        pci.write(at + 16, 0, 4)
        pci.read(at + 16, 4)
    window(STATUS, 1)
    pci.write(at + 4, 1)  # another BAR
    pci.write(at + 16, 0, 4)
    assert rng_driver.status == RUNNING
    assert rng_guest.logged() == []


# -- registers ------------------------------------------------------------------


def test_a_register_answers_its_own_width_only(bar):
    widths = {STATUS: 1, GENERATION: 1, NUM_QUEUES: 2, QUEUE_SIZE: 2, DF: 4, QUEUE_DESC: 4}
    for register, width in widths.items():
        for size in (1, 2, 4, 8):
            answers = bar.read(register, size) != (1 << 8 * size) - 1
            assert answers == (size == width), (register, size)
    bar.write(QUEUE_SIZE, 0x0000_0008, 4)
    bar.write(QUEUE_SIZE, 8)
    bar.write(QUEUE_SIZE + 1, 0)
    assert bar.read(QUEUE_SIZE, 2) == 256
    assert bar.read(0x38, 4) == ONES
    assert bar.read(0x1FFC, 4) == ONES


def test_features_come_in_two_words_and_no_more(bar):
    words = []
    for select in (0, 1, 2, 3, ONES):
        bar.write(DFSELECT, select, 4)
        assert bar.read(DFSELECT, 4) == select
        words.append(bar.read(DF, 4))
        bar.write(GFSELECT, select, 4)
        bar.write(GF, ONES, 4)
        assert bar.read(GF, 4) == (ONES if select < 2 else 0)
    assert words == [OFFERED & ONES, OFFERED >> 32, 0, 0, 0]


def test_the_queue_registers_are_checked(bar):
    for size in (0, 3, 512, 0xFFFF):
        bar.write(QUEUE_SIZE, size, 2)
        assert bar.read(QUEUE_SIZE, 2) == 256
    bar.write(QUEUE_SIZE, 64, 2)
    assert bar.read(QUEUE_SIZE, 2) == 64
    for vector, seen in ((1, 1), (0, 0), (2, NO_VECTOR), (1, 1), (0xFFFE, NO_VECTOR)):
        for register in (QUEUE_VECTOR, CONFIG_VECTOR):
            bar.write(register, vector, 2)
            assert bar.read(register, 2) == seen
    bar.write(QUEUE_USED + 4, 0x1234, 4)
    assert bar.read(QUEUE_USED, 4) == 0
    assert bar.read(QUEUE_USED + 4, 4) == 0x1234
    bar.write(QUEUE_ENABLE, 2, 2)
    assert bar.read(QUEUE_ENABLE, 2) == 0
    bar.write(QUEUE_ENABLE, 1, 2)
    bar.write(QUEUE_ENABLE, 0, 2)
    bar.write(QUEUE_SIZE, 32, 2)
    bar.write(QUEUE_USED, 0x5678, 4)
    bar.write(QUEUE_VECTOR, 1, 2)
    registers = (QUEUE_SIZE, QUEUE_ENABLE, QUEUE_OFFSET, QUEUE_VECTOR)
    assert [bar.read(register, 2) for register in registers] == [64, 1, 0, NO_VECTOR]
    assert bar.read(QUEUE_USED, 4) == 0


def test_a_queue_that_is_not_there_has_no_size(bar):
    for queue in (1, 256, 0xFFFF):
        bar.write(QUEUE_SELECT, queue, 2)
        bar.write(QUEUE_ENABLE, 1, 2)
        bar.write(QUEUE_SIZE, 8, 2)
        registers = (QUEUE_SELECT, QUEUE_SIZE, QUEUE_ENABLE, QUEUE_OFFSET)
        assert [bar.read(register, 2) for register in registers] == [queue, 0, 0, 0]


def test_a_reset_leaves_nothing(bar, rng_driver):
    names = (DFSELECT, DF, GFSELECT, GF, QUEUE_DESC, QUEUE_USED)
    words = (CONFIG_VECTOR, QUEUE_SELECT, QUEUE_SIZE, QUEUE_VECTOR, QUEUE_ENABLE)

    def registers():
        return [bar.read(each, 4) for each in names] + [bar.read(each, 2) for each in words]

    fresh = registers()
    rng_driver.start(EVENT_IDX, [8])
    bar.write(CONFIG_VECTOR, 1, 2)
    assert registers() != fresh
    rng_driver.status = 0
    assert registers() == fresh
    assert rng_driver.status == 0


# -- status ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "taken"),
    [
        (VERSION_1, True),
        (OFFERED, True),
        (0, False),
        (INDIRECT, False),
        (VERSION_1 | 1, False),
        (VERSION_1 | 1 << 63, False),
    ],
)
def test_features_are_checked(rng_guest, bar, rng_driver, features, taken):
    rng_driver.status = ACKNOWLEDGE | DRIVER
    for select in range(2):
        bar.write(GFSELECT, select, 4)
        bar.write(GF, features >> 32 * select & ONES, 4)
    rng_driver.status = ACKNOWLEDGE | DRIVER | FEATURES_OK
    assert rng_driver.status == ACKNOWLEDGE | DRIVER | (FEATURES_OK if taken else 0)
    assert len(rng_guest.logged()) == (not taken)
    bar.write(GF, 0x5A5A, 4)
    assert (bar.read(GF, 4) == 0x5A5A) == (not taken)  # not any more, once they are taken


def test_status_goes_one_way(rng_guest, rng, rng_driver):
    steps = [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER]
    for wrong in (DRIVER, DRIVER_OK, FEATURES_OK | ACKNOWLEDGE, 0x10, 0x20, 0x30):
        rng_driver.status = wrong
        assert rng_driver.status == 0
    for step in steps:
        rng_driver.status = step
        assert rng_driver.status == step
    for wrong in (ACKNOWLEDGE, DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK, 0x13):
        rng_driver.status = wrong
        assert rng_driver.status == ACKNOWLEDGE | DRIVER
    rng_driver.status = ACKNOWLEDGE | DRIVER | NEEDS_RESET  # the device's own bit
    assert rng_driver.status == ACKNOWLEDGE | DRIVER
    rng_driver.status = ACKNOWLEDGE | DRIVER | FAILED
    assert rng_driver.status == ACKNOWLEDGE | DRIVER | FAILED
    assert rng.counters()["errors"] == 10
    assert len(rng_guest.logged()) == 1


def test_drivers_come_and_go(rng_guest, rng_driver):
    for _ in range(2):
        rng_driver.start(0, [8])
        rng_driver.status = 0
    rng_driver.begin(0)
    rng_driver.status = 0
    kinds = [(event.kind, event.source) for event in rng_guest.events()]
    assert kinds == [(EventKind.DEVICE_ACTIVATED, "_rng"), (EventKind.DEVICE_RESET, "_rng")] * 2


def test_a_flood_of_events_leaves_room_for_others(rng_guest, rng_driver):
    for _ in range(50):
        rng_driver.start(0, [8])
        rng_driver.status = 0
        rng_driver.status = 0x10
    rng_guest.vm.bus_write(Space.PIO, 0x600, 0x34, 1)
    kinds = [event.kind for event in rng_guest.events()]
    assert kinds.count(EventKind.DEVICE_ACTIVATED) == 32  # one for each device there may be
    assert kinds.count(EventKind.DEVICE_LOG) == 1
    assert kinds[-1] == EventKind.POWER_OFF


# -- saved state ---------------------------------------------------------------------


def test_a_device_saved_while_it_works_goes_on(rng, rng_driver):
    (queue,) = rng_driver.start(EVENT_IDX, [8])
    at = rng_driver.allocate(4096)
    for _ in range(20):
        queue.add(writable=[(at, 16)])
        queue.kick()
        rng.save()
        assert queue.wait()[1] == 16


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (0, b"\0"),  # the vendor
        (0x11, b"\1"),  # the BAR's type
        (512, b"\1"),  # features that were not offered
        (528, b"\0\0\2\0"),  # the vector
        (532, b"\x0c"),  # DRIVER_OK without DRIVER
        (532, b"\x1f"),
        (533, b"\4"),  # ISR
        (535, b"\1"),
        (560, b"\3\0"),  # the queue's size
        (560, b"\0\2"),
        (562, b"\2\0"),  # its vector
        (566, b"\2"),
        (567, b"\1"),
        (568, b"\1"),  # a message's address
        (580, b"\2"),
        (581, b"\2"),
        (582, b"\1"),
    ],
)
def test_forged_state_is_refused(rng, rng_driver, offset, data):
    rng_driver.start(EVENT_IDX, [8])
    state = rng.save()
    with pytest.raises(ShimError) as caught:
        rng.load(forged(state, offset, data))
    assert caught.value.errno == errno.EINVAL
    assert rng.save() == state
    rng.load(state)
    assert rng.save() == state


# -- places --------------------------------------------------------------------------


def test_places_are_checked(rng_guest):
    good = rng_guest.place("new", 5)
    for wrong in (
        good._replace(slot=0),
        good._replace(slot=32),
        good._replace(bar=0xC0001000),
        good._replace(id=""),
        good._replace(id="x" * 32),
        good._replace(bus=rng_guest.serial),
    ):
        with pytest.raises(ShimError) as caught:
            create_rng(rng_guest.vm, wrong)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(ShimError) as caught:
        create_rng(rng_guest.vm, good._replace(slot=RNG_SLOT))
    assert caught.value.errno == errno.EEXIST
    create_rng(rng_guest.vm, good._replace(id="x" * 31, bar=0))


def test_the_bus_holds_31_devices():
    with kvm_shim.Vm() as vm:
        vm.add_memory(0, 4096)
        bus = vm.pci(0xE8000000)
        for slot in range(1, 32):
            create_rng(vm, Place(bus, f"rng{slot}", slot, BAR + slot * BAR_SIZE))
        for slot in range(1, 32):
            vm.bus_write(Space.MMIO, 0xE8000004 + (slot << 15), 2, 2)
            at = BAR + slot * BAR_SIZE
            assert vm.bus_read(Space.MMIO, at + NUM_QUEUES, 2) == 1
