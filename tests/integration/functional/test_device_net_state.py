# SPDX-License-Identifier: Apache-2.0
"""A network device that stands still, or moves to another machine."""

import errno
import struct
import threading
import time

import pytest

import kvm_shim
from tests.support.net import MEMORY, NetMachine, frame
from tests.support.network import Station, Taps
from tests.support.ports import forged, payload_of

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]

BASIC = 1 << 15 | 1 << 16 | 1 << 17  # mergeable buffers, status, control queue
ANNOUNCE, MQ, EVENT_IDX = (1 << bit for bit in (21, 22, 29))
PAIRS, ANNOUNCEMENT = 4, 3
LINK_UP, ANNOUNCE_NEEDED = 1, 2
LAST = 1 << 31


def move(machine, target):
    """Bring state and memory to another machine, and go on there."""
    state = machine.device.save()
    target.vm.write_memory(0, machine.vm.read_memory(0, MEMORY))
    target.device.load(state)
    target.queues = [queue.moved(target.driver) for queue in machine.queues]
    target._buffers = dict(machine._buffers)
    target._next_buffer = machine._next_buffer
    target.run()


class Traffic:
    """A station that sends numbered frames, and never stops for long."""

    def __init__(self, station):
        self.sent = 0
        self._station = station
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.is_set():
            self._station.send(frame(struct.pack("<I", self.sent) + bytes(self.sent % 1400)))
            self.sent += 1
            time.sleep(0.0002)


def number_of(received):
    (number,) = struct.unpack_from("<I", received.data, 14)
    assert received.data[18:] == bytes(number % 1400)
    return number


def test_pause_under_traffic_loses_nothing(tap):
    with (
        Station(tap.name) as station,
        NetMachine(tap.descriptors, BASIC | EVENT_IDX, queue_size=256) as machine,
    ):
        machine.run()
        machine.start(buffers=200)
        with Traffic(station):
            expected = 0
            for turn in range(40):
                for _ in range(10):
                    assert number_of(machine.receive()) == expected
                    expected += 1
                machine.vm.pause()
                stood = machine.counters()["rx_frames"]
                time.sleep(0.002)
                assert machine.counters()["rx_frames"] == stood
                machine.vm.resume()
                if turn % 4 == 0:
                    machine.send_frame(frame(b"alive"))


def test_guest_moves_to_another_machine_under_traffic(tap):
    with (
        Taps("t1") as there,
        Station(tap.name) as station,
        NetMachine(tap.descriptors, BASIC | EVENT_IDX | ANNOUNCE) as machine,
        NetMachine(there.descriptors, BASIC | EVENT_IDX | ANNOUNCE) as target,
    ):
        machine.run().start(buffers=40)
        with Traffic(station):
            for expected in range(100):
                assert number_of(machine.receive()) == expected
            machine.vm.pause()
            move(machine, target)
        assert target.driver.config.read(6, 2) == LINK_UP | ANNOUNCE_NEEDED
        assert target.control(ANNOUNCEMENT, 0) == 0
        assert target.driver.config.read(6, 2) == LINK_UP
        with Station("t1") as other:
            # What had come in by then is in the buffers that came along.
            other.send(frame(struct.pack("<I", LAST) + bytes(LAST % 1400)))
            expected = 100
            while (number := number_of(target.receive())) != LAST:
                assert number == expected
                expected += 1
            target.send_frame(frame(b"from there"))
            assert other.receive().data[14:] == b"from there"


def test_pairs_in_use_move_along():
    with (
        Taps("t0", queues=2) as taps,
        Taps("t1", queues=2) as there,
        NetMachine(taps.descriptors, BASIC | MQ) as machine,
        NetMachine(there.descriptors, BASIC | MQ) as target,
    ):
        machine.start(buffers=4)
        assert machine.control(PAIRS, 0, b"\x02\x00") == 0
        move(machine, target)
        with Station("t1") as station:
            target.send_frame(frame(b"second"), pair=1)
            assert station.receive().data[14:] == b"second"


def test_state_is_the_same_after_a_round_trip(tap):
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start(buffers=10)
        state = machine.device.save()
        machine.device.load(state)
        assert machine.device.save() == state


@pytest.mark.parametrize("bent", [b"\x02\x00", b"\xff\xff"])
def test_impossible_state_is_refused(tap, bent):
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start(buffers=10)
        state = machine.device.save()
        own = len(payload_of(state)) - 10  # pairs in use, offloads
        for offset, data in ((own, bent), (own + 2, b"\xff" * 8)):
            with pytest.raises(kvm_shim.ShimError, match="virtio-net state") as caught:
                machine.device.load(forged(state, offset, data))
            assert caught.value.errno == errno.EINVAL
        assert machine.device.save() == state


def test_state_of_a_device_with_other_queues_is_refused(tap):
    with (
        Taps("t1", queues=2) as others,
        NetMachine(tap.descriptors, BASIC) as machine,
        NetMachine(others.descriptors, BASIC) as other,
        pytest.raises(kvm_shim.ShimError),
    ):
        machine.device.load(other.device.save())
