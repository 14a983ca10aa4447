# SPDX-License-Identifier: Apache-2.0
"""Persistent memory, driven by a tiny guest, seen in its file."""

import errno
import os

import pytest

from kvm_shim import EventKind, ShimError
from kvm_shim.virtio.pmem import create_pmem
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

UNIT = 2 << 20
SIZE = 2 * UNIT
GPA = 0x10000000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(b"was here" + bytes(SIZE - 8))
    return path


class Guest(GuestVm):
    """The guest of tests/guests/pmem.c with the file in its memory."""

    def __init__(self, path, cmdline="", *, access=os.O_RDWR, run=True, **config):
        super().__init__("pmem", cmdline=cmdline)
        fd = os.open(path, access)
        try:
            self.pmem = create_pmem(
                self.vm, self.place("_pmem", 3), fd=fd, gpa=GPA, size=SIZE, **config
            )
        finally:
            os.close(fd)
        self.devices["pmem"] = self.pmem
        if run:
            self.run()
            self.expect_event(EventKind.DEVICE_ACTIVATED, "_pmem")

    def expect_start(self, content):
        number = int.from_bytes(content, "little")
        self.console.expect(f"{GPA:016x} {SIZE:016x} {number:016x}\n".encode())


def last_words(path):
    data = path.read_bytes()
    return {int.from_bytes(data[at - 8 : at], "little") for at in range(UNIT, SIZE + 1, UNIT)}


def test_what_the_guest_writes_is_in_the_file(path):
    with Guest(path, "rounds=5") as guest:
        guest.expect_start(b"was here")
        guest.console.expect(b"unknown request: 1\n")
        guest.expect_power_off()
        counters = guest.pmem.counters()
        assert (counters["flushes"], counters["flush_errors"]) == (5, 0)
        assert "not flushed" not in guest.console.output.decode()
    assert path.read_bytes()[:8] == b"written\0"
    assert last_words(path) == {5}
    assert path.stat().st_size == SIZE


@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_RDWR])
def test_discarded_writes_stay_out_of_the_file(path, access):
    with Guest(path, "rounds=3", access=access, discard_writes=True) as guest:
        guest.expect_start(b"was here")
        guest.expect_power_off()
        assert guest.vm.read_memory(GPA, 8) == b"written\0"
        assert guest.pmem.counters()["flush_errors"] == 0
    assert path.read_bytes() == b"was here" + bytes(SIZE - 8)


def test_the_guests_memory_is_the_machines_too(path):
    """Other devices reach it: a page of the file is RAM to them."""
    with Guest(path, run=False) as guest:
        assert guest.vm.read_memory(GPA, 8) == b"was here"
        guest.vm.write_memory(GPA + SIZE - 4, b"last")
        with pytest.raises(ShimError) as caught:
            guest.vm.add_memory(GPA + UNIT, UNIT)
        assert caught.value.errno == errno.EEXIST
    assert path.read_bytes()[-4:] == b"last"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": SIZE + UNIT}, errno.EINVAL),
        ({"size": UNIT // 2}, errno.EINVAL),
        ({"size": 0}, errno.EINVAL),
        ({"gpa": GPA + 4096}, errno.EINVAL),
        ({"gpa": 0}, errno.EEXIST),
        ({"fd": 999}, errno.EBADF),
    ],
)
def test_what_cannot_be_is_refused(path, change, error):
    with GuestVm(None) as guest, path.open("r+b") as file:
        place = guest.place("_pmem", 3)
        config = {"fd": file.fileno(), "gpa": GPA, "size": SIZE} | change
        with pytest.raises(ShimError) as caught:
            create_pmem(guest.vm, place, **config)
        assert caught.value.errno == error
        assert caught.value.context


def test_a_file_that_is_only_read_is_refused(path):
    with GuestVm(None) as guest, path.open("rb") as file:
        with pytest.raises(ShimError) as caught:
            create_pmem(guest.vm, guest.place("_pmem", 3), fd=file.fileno(), gpa=GPA, size=SIZE)
        assert caught.value.errno == errno.EACCES


def test_pause_under_load_and_a_fresh_machine_goes_on(path):
    with Guest(path) as old:
        for _ in range(10):
            floor = old.wait_for_counts_above(old.counts())
            old.vm.pause()
            assert old.count() >= floor[0]
            old.vm.resume()
        old.vm.pause()
        memory = old.vm.read_memory(0, 4 << 20)
        states = {name: device.save() for name, device in old.devices.items()}
        vcpu, machine = old.vm.save_vcpu(0), old.vm.save()
        counts = old.counts()
    with Guest(path, run=False) as new:
        new.vm.write_memory(0, memory)
        new.vm.load(machine)
        new.vm.load_vcpu(0, vcpu)
        for name, device in new.devices.items():
            device.load(states[name])
        new.run()
        reached = new.wait_for_counts_above([counts[0] + 5])
        new.vm.pause()
    assert max(last_words(path)) >= reached[0]
