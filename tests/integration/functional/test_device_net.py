# SPDX-License-Identifier: Apache-2.0
"""The network device: its configuration, the way of frames, and what may go wrong there."""

import errno
import os
import struct
import time

import pytest

import kvm_shim
from tests.support.net import HEADER, HOST, MAC, NetMachine, checksum, frame, tcp_frame
from tests.support.network import Frame, Station
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]

CSUM, GUEST_CSUM, GUEST_OFFLOADS, MTU, MAC_FEATURE = (1 << bit for bit in (0, 1, 2, 3, 5))
GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO = (1 << bit for bit in (7, 8, 9, 10))
HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO = (1 << bit for bit in (11, 12, 13, 14))
MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX = (1 << bit for bit in (15, 16, 17, 18))
ANNOUNCE, MQ, CTRL_MAC = (1 << bit for bit in (21, 22, 23))
EVENT_IDX = 1 << 29
TSO = CSUM | GUEST_CSUM | HOST_TSO4 | GUEST_TSO4
BASIC = MRG_RXBUF | STATUS | CTRL_VQ

NEEDS_CSUM, DATA_VALID = 1, 2
GSO_TCPV4 = 1
LINK_UP, ANNOUNCE_NEEDED = 1, 2


@pytest.fixture
def station(tap):
    with Station(tap.name) as there:
        yield there


@pytest.fixture
def machine(tap):
    with NetMachine(tap.descriptors, BASIC | EVENT_IDX) as made:
        yield made.start(buffers=48)


def log_line(machine):
    """Return what the operator is told next."""
    while (event := machine.vm.next_event()) is not None:
        if event.kind is kvm_shim.EventKind.DEVICE_LOG:
            return event.text
    raise AssertionError("nothing")


# -- what the device says of itself -----------------------------------------------


def test_configuration_space(tap):
    with NetMachine(tap.descriptors, BASIC, mtu=9000) as machine:
        config = machine.driver.config
        assert bytes(config.read(offset) for offset in range(6)) == MAC
        assert [config.read(offset, 2) for offset in (6, 8, 10)] == [LINK_UP, 1, 9000]
        assert machine.driver.offered & MTU


@pytest.mark.parametrize(
    ("config", "absent"),
    [
        ({}, MQ | MTU),
        ({"offload_ufo": False}, HOST_UFO | GUEST_UFO),
        ({"offload_tso": False}, HOST_TSO4 | HOST_TSO6 | HOST_ECN | GUEST_TSO4 | GUEST_ECN),
        ({"offload_csum": False}, CSUM | GUEST_CSUM | HOST_TSO4 | GUEST_TSO6 | GUEST_OFFLOADS),
    ],
)
def test_features(tap, config, absent):
    every = BASIC | MAC_FEATURE | CTRL_RX | ANNOUNCE | CTRL_MAC | EVENT_IDX
    with NetMachine(tap.descriptors, **config) as machine:
        assert machine.driver.offered & (every | absent) == every


def test_bad_descriptors_are_refused(tap):
    with pytest.raises(kvm_shim.ShimError, match="is no tap"):
        NetMachine([0])
    for config, word in (({"queue_size": 3}, "queue size 3"), ({"mtu": 67}, "MTU 67")):
        with pytest.raises(kvm_shim.ShimError, match=word) as caught:
            NetMachine(tap.descriptors, **config)
        assert caught.value.errno == errno.EINVAL


# -- from the guest ---------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (12,), (5,), (1, 12, 13), tuple(range(1, 40))])
def test_frames_of_the_guest_arrive(machine, station, cuts):
    sent = frame(os.urandom(1000), to=HOST, of=MAC)
    machine.send_frame(sent, cuts=cuts)
    assert station.receive().data == sent.data
    counters = machine.counters()
    assert (counters["tx_frames"], counters["tx_bytes"]) == (1, len(sent.data))


def test_frames_of_the_guest_keep_their_order(machine, station):
    for number in range(300):
        machine.send_frame(frame(bytes([number & 0xFF]) * 60, to=HOST, of=MAC))
    assert [station.receive().data[14] for _ in range(300)] == [n & 0xFF for n in range(300)]


def test_frame_to_be_segmented_leaves_in_one_piece(tap):
    with Station(tap.name, 0x0800) as there, NetMachine(tap.descriptors, BASIC | TSO) as machine:
        machine.start()
        sent = tcp_frame(60000, to=HOST, of=MAC)
        machine.send_frame(sent, cuts=(12, 4096, 30000))
        received = there.receive()
        assert received.data == sent.data
        assert (received.gso_type, received.gso_size) == (GSO_TCPV4, 1448)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(HEADER),
        bytes(HEADER + 13),
        Frame(b"", flags=NEEDS_CSUM).header + bytes(2 + 60),  # not negotiated
        Frame(b"", gso_type=GSO_TCPV4, gso_size=1000).header + bytes(2 + 60),
        Frame(b"", gso_type=0x7F).header + bytes(2 + 60),
        Frame(b"", header_length=60000).header + bytes(2 + 60),
        bytes(70000),
    ],
    ids=["header", "empty", "short", "csum", "gso", "type", "length", "long"],
)
def test_malformed_frame_is_lost_alone(machine, station, data):
    machine.send(data or bytes(HEADER - 1))
    good = frame(b"after all", to=HOST, of=MAC)
    machine.send_frame(good)
    assert station.receive().data == good.data
    counters = machine.counters()
    assert (counters["tx_malformed"], counters["tx_frames"]) == (1, 1)
    assert not machine.driver.needs_reset


@pytest.mark.parametrize(
    "bent",
    [
        {"checksum_start": 65000},
        {"checksum_start": 1400, "checksum_offset": 65000},
        {"gso_size": 0},
        {"header_length": 65000},
        {"gso_type": 3},
        {"gso_type": 4},
        {"flags": 0},
        {"gso_type": 0x81},  # ECN, not negotiated
    ],
)
def test_malformed_offloads_lose_the_frame_alone(tap, bent):
    with Station(tap.name, 0x0800) as there, NetMachine(tap.descriptors, BASIC | TSO) as machine:
        machine.start()
        machine.send_frame(tcp_frame(3000, to=HOST, of=MAC)._replace(**bent))
        good = tcp_frame(3000, to=HOST, of=MAC)
        machine.send_frame(good)
        assert there.receive().data == good.data
        assert machine.counters()["tx_malformed"] == 1


def test_unknown_flags_are_ignored(machine, station):
    sent = frame(b"flags", to=HOST, of=MAC)._replace(flags=0xFE)
    machine.send_frame(sent)
    assert station.receive().data == sent.data


def test_interface_that_is_down_loses_frames(machine, tap):
    tap.set_up(up=False)
    machine.send_frame(frame(b"lost", to=HOST, of=MAC))
    assert machine.counters()["tx_dropped"] == 1
    assert "'ip link set t0 up'" in log_line(machine)
    tap.set_up(up=True)
    with Station(tap.name) as station:
        machine.send_frame(frame(b"there", to=HOST, of=MAC))
        assert station.receive().data[14:] == b"there"


# -- to the guest -----------------------------------------------------------------


def test_frames_arrive_at_the_guest(machine, station):
    for size in (1, 60, 1000, 1486):
        sent = frame(os.urandom(size))
        station.send(sent)
        received = machine.receive()
        assert received.data == sent.data
        assert received[1:3] == (0, 0)
    counters = machine.counters()
    assert (counters["rx_frames"], counters["rx_bytes"]) == (4, 1 + 60 + 1000 + 1486 + 4 * 14)


def test_frames_arrive_in_order(machine, station):
    for start in range(0, 2000, 40):
        for number in range(start, start + 40):
            station.send(frame(struct.pack("<I", number)))
        for number in range(start, start + 40):
            assert struct.unpack_from("<I", machine.receive().data, 14) == (number,)


def test_long_frame_takes_several_buffers(tap, station):
    tap.set_mtu(9000)
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start(buffers=20, size=1000)
        for size in (8000, 10, 987, 986, 985, 8000):
            sent = frame(os.urandom(size))
            station.send(sent)
            assert machine.receive().data == sent.data


def test_buffers_of_several_segments(tap, station):
    tap.set_mtu(9000)
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start()
        for number in range(4):
            at = 0x40_0000 + number * 0x1_0000
            machine.give((at, 7), (at + 7, 2), (at + 9, 500), (at + 509, 3000))
        machine.queues[0].kick()
        sent = frame(os.urandom(8000))
        station.send(sent)
        assert machine.receive(refill=False).data[:1000] == sent.data[:1000]


def test_segmented_frame_arrives_in_one_piece(tap):
    with Station(tap.name, 0x0800) as there, NetMachine(tap.descriptors, BASIC | TSO) as machine:
        machine.start(buffers=60, size=1536)
        for _ in range(5):
            sent = tcp_frame(60000)
            there.send(sent)
            received = machine.receive()
            assert received.data == sent.data
            assert received[1:3] == (NEEDS_CSUM, GSO_TCPV4)
            assert received.gso_size == 1448


def test_guest_without_offloads_gets_finished_frames(machine, tap):
    with Station(tap.name, 0x0800) as there:
        there.send(tcp_frame(5000))
        pieces = [machine.receive() for _ in range(4)]
    assert [piece[1:3] for piece in pieces] == [(0, 0)] * 4
    assert sum(len(piece.data) - 54 for piece in pieces) == 5000
    for piece in pieces:
        segment = piece.data[34:] + bytes(len(piece.data) % 2)
        pseudo = piece.data[26:34] + struct.pack(">HH", 6, len(piece.data) - 34)
        assert checksum(pseudo + segment) == 0xFFFF


def test_guest_without_mergeable_buffers(tap, station):
    tap.set_mtu(4000)
    with NetMachine(tap.descriptors, STATUS) as machine:
        machine.start(buffers=4, size=1526)
        station.send(frame(bytes(3000)))  # finds no buffer long enough
        sent = frame(os.urandom(1000))
        station.send(sent)
        assert machine.receive().data == sent.data
        assert machine.counters()["rx_dropped"] == 1


def test_frame_waits_for_buffers(tap):
    with Station(tap.name, 0x0800) as there, NetMachine(tap.descriptors, BASIC | TSO) as machine:
        machine.start(buffers=10, size=1536)
        sent = tcp_frame(60000)
        there.send(sent)  # 40 buffers long
        wait_until(lambda: machine.counters()["queue0_notifications"])
        time.sleep(0.05)
        assert machine.queues[0].take() is None
        machine.fill(40, 1536)
        assert machine.receive().data == sent.data
        there.send(sent)
        assert machine.receive().data == sent.data


@pytest.mark.parametrize("buffers", [8, 16])
def test_frame_that_may_never_have_room_is_dropped(tap, buffers):
    with (
        Station(tap.name, 0x0800) as there,
        NetMachine(tap.descriptors, BASIC | TSO, queue_size=16) as machine,
    ):
        machine.start(buffers=buffers, size=1536)
        there.send(tcp_frame(60000))
        wait_until(lambda: machine.counters()["rx_dropped"] == 1)
        sent = tcp_frame(10000)
        there.send(sent)
        assert machine.receive().data == sent.data


def test_frames_wait_while_there_are_no_buffers(tap, station):
    with NetMachine(tap.descriptors, BASIC | EVENT_IDX) as machine:
        machine.start()
        for number in range(20):
            station.send(frame(bytes([number])))
        machine.fill(5, 2048)
        assert [machine.receive().data[14] for _ in range(20)] == list(range(20))


def test_no_thread_spins_while_frames_wait(tap, station):
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start()
        station.send(frame(b"waits"))
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1
        tap.close()  # our descriptors only: the device has its own
        assert machine.counters()["rx_frames"] == 0


# -- a driver that breaks the rules -----------------------------------------------


@pytest.mark.parametrize(
    ("readable", "writable"),
    [([], [(0x40_0000, 11)]), ([(0x40_0000, 100)], []), ([(0x40_0000, 8)], [(0x40_1000, 99)])],
)
def test_useless_receive_buffer_needs_a_reset(machine, station, readable, writable):
    machine.start(buffers=0)
    machine.queues[0].add(readable, writable)
    machine.queues[0].kick()
    station.send(frame(b"any"))
    wait_until(lambda: machine.driver.needs_reset)
    machine.start(buffers=4)
    station.send(frame(b"again"))
    while not machine.receive().data.startswith(MAC):
        pass
    assert not machine.driver.needs_reset


@pytest.mark.parametrize("address", [0x100_0000, 1 << 40, 0xC000_0000, (1 << 64) - 8])
@pytest.mark.parametrize("queue", [0, 1, 2])
def test_buffer_outside_ram_needs_a_reset(tap, station, queue, address):
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start()
        flags = 2 if queue == 0 else 0
        machine.queues[queue].write_descriptor(0, address, 2000, flags)
        machine.queues[queue].offer(0)
        machine.queues[queue].kick()
        station.send(frame(b"any"))
        wait_until(lambda: machine.driver.needs_reset)


@pytest.mark.parametrize("queue", [0, 1, 2])
def test_chain_without_end_needs_a_reset(tap, station, queue):
    with NetMachine(tap.descriptors, BASIC) as machine:
        machine.start()
        flags = 3 if queue == 0 else 1
        machine.queues[queue].write_descriptor(0, 0x40_0000, 20, flags, 1)
        machine.queues[queue].write_descriptor(1, 0x40_1000, 20, flags, 0)
        machine.queues[queue].offer(0)
        machine.queues[queue].kick()
        station.send(frame(b"any"))
        wait_until(lambda: machine.driver.needs_reset)


def test_random_rings_hurt_nobody(tap, station):
    with NetMachine(tap.descriptors, BASIC | TSO) as machine:
        for _ in range(60):
            machine.start(buffers=2)
            for queue in machine.queues:
                for index in range(queue.size):
                    address, length, flags, following = struct.unpack("<QIHH", os.urandom(16))
                    queue.write_descriptor(
                        index,
                        address & 0x1F_FFFF,
                        length & 0x3FFF,
                        flags & (0xF if queue.index else 0x7),
                        following % queue.size,
                    )
                for _ in range(8):
                    queue.offer(os.urandom(1)[0] % queue.size)
                queue.kick()
            for _ in range(4):
                station.send(frame(os.urandom(200)))
        machine.start(buffers=40)
        sent = frame(b"sane again" * 9)
        station.send(sent)
        while machine.receive().data != sent.data:
            pass


# -- the end of the interface -----------------------------------------------------


def test_interface_that_is_deleted_takes_the_link_down(tap, station):
    with NetMachine(tap.descriptors, BASIC | EVENT_IDX) as machine:
        machine.start(buffers=10)
        station.send(frame(b"before"))
        assert machine.receive().data[14:] == b"before"
        tap.delete()
        wait_until(lambda: not machine.driver.config.read(6, 2) & LINK_UP)
        assert "the interface t0 is gone" in log_line(machine)
        machine.send_frame(frame(b"into the void", to=HOST, of=MAC))
        assert machine.counters()["tx_dropped"] == 1
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1
        machine.start(buffers=10)
        machine.send_frame(frame(b"still", to=HOST, of=MAC))
        assert not machine.driver.needs_reset
        assert not machine.driver.config.read(6, 2) & LINK_UP
