# SPDX-License-Identifier: Apache-2.0
"""A network device that is held back by rate limits."""

import os
import struct
import time

import pytest

from kvm_shim.virtio.limiter import Bucket, create_limiter
from tests.support.net import NetMachine, frame
from tests.support.network import Station

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]

LATE = 10.0
"""Where 0.4 s are right: how exact the limiter is, its own tests know; the host may be busy."""
BASIC = 1 << 15 | 1 << 16 | 1 << 17  # mergeable buffers, status, control queue


def limit(**buckets):
    return lambda vm: create_limiter(vm, **buckets)


def test_bandwidth_to_the_guest_is_limited(tap):
    rate = Bucket(size=25_000, refill_ms=100)  # 250 kB/s
    with (
        Station(tap.name) as station,
        NetMachine(tap.descriptors, BASIC, rx_limiter=limit(bandwidth=rate)) as machine,
    ):
        machine.start(buffers=60)
        begun = time.monotonic()
        for _ in range(25):
            station.send(frame(bytes(986)))  # the burst that the bucket begins with
            machine.receive()
        for _ in range(100):
            station.send(frame(bytes(986)))
        for _ in range(100):
            machine.receive()
        took = time.monotonic() - begun
        assert 0.36 < took < LATE
        assert machine.counters()["throttled_us"] > 200_000


def test_frames_from_the_guest_are_limited(tap):
    rate = Bucket(size=25, refill_ms=100)  # 250 frames/s
    with (
        Station(tap.name) as station,
        NetMachine(tap.descriptors, BASIC, tx_limiter=limit(operations=rate)) as machine,
    ):
        machine.start()
        begun = time.monotonic()
        for _ in range(25):
            machine.send_frame(frame(b"burst"))
        for number in range(100):
            machine.send_frame(frame(struct.pack("<I", number)))
        took = time.monotonic() - begun
        assert 0.36 < took < LATE
        for _ in range(25):
            station.receive()
        for number in range(100):
            assert station.receive().data[14:18] == struct.pack("<I", number)


def test_pause_does_not_wait_for_the_limiter(tap):
    rate = Bucket(size=1, refill_ms=3_600_000)
    with (
        Station(tap.name) as station,
        NetMachine(
            tap.descriptors,
            BASIC,
            rx_limiter=limit(operations=rate),
            tx_limiter=limit(operations=rate),
        ) as machine,
    ):
        machine.run()
        machine.start(buffers=10)
        sent = [frame(os.urandom(100)) for _ in range(4)]
        for each in sent:
            station.send(each)
        assert machine.receive().data == sent[0].data
        begun = time.monotonic()
        machine.vm.pause(60.0)
        assert time.monotonic() - begun < 30.0
        # What was on its way past the limiter is delivered, not lost.
        machine.vm.resume()
        assert machine.receive().data == sent[1].data
