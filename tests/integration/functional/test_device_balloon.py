# SPDX-License-Identifier: Apache-2.0
"""The balloon, driven by a tiny guest, seen in what of its memory the host holds."""

import errno
import time
from pathlib import Path

import pytest

from kvm_shim import EventKind, MemoryFlag, ShimError
from kvm_shim.virtio.balloon import create_balloon
from tests.support.machines import GuestVm
from tests.support.ram import resident

pytestmark = pytest.mark.kvm

MIB = 1 << 20
HUGE_PAGE = 2 * MIB
NR_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
PAGE = 4096
# No mapping of another kind has this size.
MEMORY = 24 * MIB + 3 * PAGE
PAGES = 2048
POOL = PAGES * PAGE


class Guest(GuestVm):
    """The guest of tests/guests/balloon.c with a balloon."""

    def __init__(self, cmdline="", *, pages=PAGES, memory=MEMORY, flags=0, run=True, **config):
        super().__init__(
            "balloon",
            cmdline=f"pages={pages} {cmdline}",
            memory=memory,
            flags=MemoryFlag(flags),
        )
        self.balloon = create_balloon(self.vm, self.place("_balloon", 3), **config)
        self.devices["balloon"] = self.balloon
        if run:
            self.run()
            self.expect_event(EventKind.DEVICE_ACTIVATED, "_balloon")

    @property
    def zeroed(self):
        """How many pages were zero when they came back."""
        return int.from_bytes(self.vm.read_memory(0x200008, 8), "little")

    def wait_for(self, condition, what, timeout=60.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (what, self.balloon.counters())
            time.sleep(0.002)

    def wait_for_actual(self, size):
        self.wait_for(lambda: self.balloon.actual() == size, f"actual {size}")

    def wait_until_touched(self):
        self.console.expect(b"touched\n")


@pytest.mark.parametrize("flags", [0, MemoryFlag.THP, MemoryFlag.SHARED])
def test_memory_goes_to_the_host_and_comes_back(flags):
    with Guest(flags=flags) as guest:
        guest.wait_until_touched()
        full = resident(MEMORY)
        assert full >= POOL
        guest.balloon.resize(POOL)
        guest.wait_for_actual(POOL)
        assert resident(MEMORY) <= full - POOL
        guest.balloon.resize(POOL // 2)
        guest.wait_for_actual(POOL // 2)
        assert guest.zeroed == PAGES // 2
        assert resident(MEMORY) >= full - POOL // 2
        counters = guest.balloon.counters()
        assert counters["target_bytes"] == counters["actual_bytes"] == POOL // 2
        assert counters["inflated_bytes"] == POOL
        assert counters["deflated_bytes"] == POOL // 2
        assert counters["reported_bytes"] == counters["kept_bytes"] == 0


def test_a_balloon_has_its_size_from_the_start():
    with Guest(size=16 * PAGE) as guest:
        guest.wait_for_actual(16 * PAGE)


@pytest.mark.parametrize("size", [4095, 1 << 44])
def test_sizes_that_are_none(size):
    with Guest(run=False) as guest:
        with pytest.raises(ShimError) as caught:
            guest.balloon.resize(size)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(ShimError):
            create_balloon(guest.vm, guest.place("other", 4), size=size)


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("numbering", ["", "standard=1"])
def test_free_pages_are_reported(statistics, numbering):
    cmdline = f"report={PAGES} {numbering}"
    with Guest(cmdline, free_page_reporting=True, statistics=statistics) as guest:
        guest.console.expect(b"reported\n")
        guest.wait_for_counts_above([0])
        assert guest.balloon.counters()["reported_bytes"] == POOL
        assert resident(MEMORY) < POOL
        guest.balloon.resize(POOL)
        guest.wait_for_actual(POOL)


def test_statistics_are_asked_for_and_told():
    with Guest(statistics=True, pages=16) as guest:
        guest.wait_for_counts_above([0])
        guest.wait_for(lambda: "guest_free_bytes" in guest.balloon.counters(), "statistics")
        counters = guest.balloon.counters()
        assert counters["guest_free_bytes"] == 0x100001
        assert counters["guest_minor_faults"] == 7
        assert sum(name.startswith("guest_") for name in counters) == 2
        guest.wait_for(lambda: guest.balloon.counters()["guest_free_bytes"] > 0x100001, "more")


def test_what_a_guest_does_not_have_it_cannot_give():
    with Guest("hostile=1") as guest:
        guest.console.expect(b"hostile\n")
        counters = guest.balloon.counters()
        assert counters["errors"] > 0
        assert counters["kept_bytes"] >= 8 * PAGE
        event = guest.expect_event(EventKind.DEVICE_LOG, "_balloon")
        assert "where it has none" in event.text
        guest.balloon.resize(POOL)
        guest.wait_for_actual(POOL)


@pytest.fixture
def huge_pages():
    """Huge pages for 24 MiB of RAM, reserved for the test where it may do that."""
    before = NR_HUGEPAGES.read_text()
    wanted = int(before) + 24 * MIB // HUGE_PAGE
    try:
        NR_HUGEPAGES.write_text(str(wanted))
    except PermissionError as ex:
        pytest.skip(f"only root may reserve huge pages: {ex}")
    try:
        if int(NR_HUGEPAGES.read_text()) < wanted:
            pytest.skip(f"the host has no memory in one piece for {wanted} huge pages")
        yield
    finally:
        NR_HUGEPAGES.write_text(before)


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_of_the_host_are_kept():
    with Guest(flags=MemoryFlag.HUGEPAGES, memory=24 * MIB) as guest:
        guest.vm.prefault(0, 24 * MIB)
        guest.balloon.resize(POOL)
        guest.wait_for_actual(POOL)
        assert guest.balloon.counters()["kept_bytes"] == POOL


def test_pause_while_it_moves():
    with Guest(statistics=True) as guest:
        for round_ in range(20):
            guest.balloon.resize(POOL if round_ % 2 == 0 else 0)
            time.sleep(0.01)
            guest.vm.pause()
            before = guest.balloon.counters()["inflated_bytes"]
            assert guest.balloon.counters()["inflated_bytes"] == before
            guest.vm.resume()
        guest.balloon.resize(POOL)
        guest.wait_for_actual(POOL)


def test_a_fresh_machine_goes_on_with_the_saved_state():
    with Guest(statistics=True) as old:
        old.wait_until_touched()
        old.balloon.resize(POOL)
        old.wait_for(lambda: old.balloon.actual() >= POOL // 8, "some of it")
        old.vm.pause()
        memory = old.vm.read_memory(0, MEMORY)
        states = {name: device.save() for name, device in old.devices.items()}
        vcpu, machine = old.vm.save_vcpu(0), old.vm.save()
        actual = old.balloon.actual()
    with Guest(statistics=True, run=False) as new:
        new.vm.write_memory(0, memory)
        new.vm.load(machine)
        new.vm.load_vcpu(0, vcpu)
        for name, device in new.devices.items():
            device.load(states[name])
        assert new.balloon.actual() == actual
        new.run()
        new.wait_for_actual(POOL)
        new.balloon.resize(0)
        new.wait_for_actual(0)
        new.wait_for(lambda: "guest_free_bytes" in new.balloon.counters(), "statistics")
