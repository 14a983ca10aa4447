# SPDX-License-Identifier: Apache-2.0
"""A guest that attacks its devices from two CPUs: the VM stands, and one device serves on."""

import os
import select
import socket
import time
from collections import Counter

import pytest

from kvm_shim import EventKind
from kvm_shim.virtio.block import BlockConfig, create_block
from kvm_shim.virtio.console import create_console
from kvm_shim.virtio.pmem import create_pmem
from kvm_shim.virtio.rng import create_rng
from kvm_shim.virtio.vsock import create_vsock
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

SECONDS = 4.0
PMEM = 2 << 20
EXPECTED = {EventKind.DEVICE_ACTIVATED, EventKind.DEVICE_RESET, EventKind.DEVICE_LOG}


@pytest.fixture
def image(tmp_path):
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, PMEM)
    yield fd
    os.close(fd)


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vsock"))
        listener.listen()
        yield listener


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hostile_guest_harms_nobody(seed, image, listener, tmp_path):
    with GuestVm("hostile", vcpus=2, cmdline=f"seed={seed}") as guest:
        vm, place = guest.vm, guest.place
        good = create_rng(vm, place("good", 1))
        config = BlockConfig(fd=image, sparse=True, num_queues=2, queue_size=64)
        victims = [
            create_block(vm, place("disk", 2), config),
            create_rng(vm, place("rng", 3)),
            create_console(vm, place("console", 4)),
            create_vsock(vm, place("vsock", 5), 3, listener.fileno(), str(tmp_path / "vsock")),
            create_pmem(vm, place("pmem", 6), fd=image, gpa=0x10000000, size=PMEM),
        ]
        guest.run()
        guest.console.expect(b"hostile\n")
        counts = guest.counts()
        seen: Counter[tuple[EventKind, str]] = Counter()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            select.select([vm.event_fd], [], [], 0.1)
            while (event := vm.next_event()) is not None:
                assert event.kind in EXPECTED, event
                seen[event.kind, event.source] += 1
            vm.pause()
            for victim in victims:
                victim.save()
            vm.resume()
        guest.wait_for_counts_above(counts)
        guest.console.read()
        assert b"wrong" not in guest.console.output
        counters = good.counters()
        assert counters["errors"] == 0
        assert counters["queue0_requests"] >= guest.count()

        # What it did was noticed, and told, but no more than an operator can read.
        totals: Counter[str] = Counter()
        for victim in victims:
            totals.update(victim.counters())
        assert totals["errors"] > 10
        assert totals["queue0_requests"] > 10
        logs = {
            source: count for (kind, source), count in seen.items() if kind == EventKind.DEVICE_LOG
        }
        assert logs
        assert "good" not in logs
        assert max(logs.values()) <= SECONDS + 2
