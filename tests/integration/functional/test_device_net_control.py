# SPDX-License-Identifier: Apache-2.0
"""The network device's control queue, and more queue pairs than one."""

import struct
import time

import pytest

from tests.support.net import HOST, MAC, NetMachine, frame
from tests.support.network import Frame, Station, Taps

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]

GUEST_CSUM, GUEST_OFFLOADS, GUEST_TSO4 = 1 << 1, 1 << 2, 1 << 7
BASIC = 1 << 15 | 1 << 16 | 1 << 17  # mergeable buffers, status, control queue
CTRL_RX, ANNOUNCE, MQ, CTRL_MAC, EVENT_IDX = (1 << bit for bit in (18, 21, 22, 23, 29))
EVERY = BASIC | GUEST_CSUM | GUEST_OFFLOADS | GUEST_TSO4 | CTRL_RX | ANNOUNCE | CTRL_MAC

RX, ADDRESS, VLAN, ANNOUNCEMENT, PAIRS, OFFLOADS = range(6)
OK, ERROR = 0, 1
IPV4 = 0x0800


@pytest.fixture
def machine():
    with Taps("t0") as taps, NetMachine(taps.descriptors, EVERY) as made:
        yield made.start(buffers=8)


def address(machine):
    return bytes(machine.driver.config.read(offset) for offset in range(6))


@pytest.mark.parametrize("split", [True, False])
def test_receive_modes_are_accepted(machine, split):
    for command in (0, 1):
        for on in (0, 1):
            assert machine.control(RX, command, bytes([on]), split=split) == OK
    table = struct.pack("<I6s", 1, HOST) + struct.pack("<I", 2) + bytes(12)
    assert machine.control(ADDRESS, 0, table, split=split) == OK


def test_address_is_the_guests_until_the_reset(machine):
    assert machine.control(ADDRESS, 1, HOST) == OK
    assert address(machine) == HOST
    machine.driver.status = 0
    assert address(machine) == MAC


@pytest.mark.parametrize(
    ("kind", "command", "data"),
    [
        (RX, 0, b""),
        (RX, 0, b"\x02"),
        (RX, 0, b"\x01\x01"),
        (RX, 2, b"\x01"),
        (ADDRESS, 0, b""),
        (ADDRESS, 0, struct.pack("<I", 1)),
        (ADDRESS, 0, struct.pack("<I", 0xFFFFFFFF) + bytes(4)),
        (ADDRESS, 0, struct.pack("<II", 0, 0) + b"\x00"),
        (ADDRESS, 1, HOST[:5]),
        (ADDRESS, 2, HOST),
        (VLAN, 0, b"\x01\x00"),
        (ANNOUNCEMENT, 0, b"\x00"),
        (ANNOUNCEMENT, 1, b""),
        (PAIRS, 0, b"\x01\x00"),
        (OFFLOADS, 0, struct.pack("<Q", 1 << 8)),
        (OFFLOADS, 0, struct.pack("<I", GUEST_CSUM)),
        (9, 9, bytes(100)),
    ],
)
def test_wrong_commands_are_refused(machine, kind, command, data):
    assert machine.control(kind, command, data) == ERROR
    assert machine.control(RX, 0, b"\x00") == OK


def test_command_that_was_not_negotiated_is_refused():
    with Taps("t0") as taps, NetMachine(taps.descriptors, BASIC) as machine:
        machine.start()
        assert machine.control(RX, 0, b"\x01") == ERROR
        assert machine.control(ADDRESS, 1, HOST) == ERROR
        assert machine.control(ANNOUNCEMENT, 0) == ERROR
        assert machine.control(OFFLOADS, 0, bytes(8)) == ERROR


def test_offloads_follow_the_guest(machine):
    with Station("t0", IPV4) as there:
        # UDP over IPv4, its checksum left open.
        ip = bytes.fromhex("4500003000010000401100000a0000010a000002")
        udp = struct.pack(">HHHH", 1, 2, 28, 0x1234) + bytes(20)
        sent = Frame(MAC + HOST + b"\x08\x00" + ip + udp, 1, 0, 0, 0, 34, 6)
        there.send(sent)
        assert machine.receive().flags == 1
        assert machine.control(OFFLOADS, 0, bytes(8)) == OK
        there.send(sent)
        received = machine.receive()
        assert (received.flags, len(received.data)) == (0, len(sent.data))
        assert received.data != sent.data
        assert machine.control(OFFLOADS, 0, struct.pack("<Q", GUEST_CSUM | GUEST_TSO4)) == OK
        there.send(sent)
        assert machine.receive().data == sent.data


# -- more pairs -------------------------------------------------------------------


@pytest.fixture
def taps():
    with Taps("t0", queues=4) as made:
        yield made


@pytest.fixture
def wide(taps):
    with NetMachine(taps.descriptors, BASIC | MQ | EVENT_IDX) as made:
        made.start()
        for pair in range(4):
            made.fill(32, 2048, pair=pair)
        yield made


def arrivals(machine, station, count):
    """Send frames of several flows, and count what comes in on each pair."""
    for number in range(count):
        station.send(flow(number))
    found = [0] * 4
    deadline = time.monotonic() + 5
    while sum(found) < count:
        assert time.monotonic() < deadline, found
        for pair in range(4):
            while machine.queues[2 * pair].take() is not None:
                found[pair] += 1
    return found


def flow(number):
    """Return a UDP packet of a connection of its own."""
    ip = bytes.fromhex("4500001c00010000401100000a0000010a000002")
    udp = struct.pack(">HHHH", 1000 + number, 2, 8, 0)
    return Frame(MAC + HOST + b"\x08\x00" + ip + udp)


def set_pairs(machine, pairs):
    return machine.control(PAIRS, 0, struct.pack("<H", pairs))


def test_one_pair_is_used_until_the_guest_asks(wide):
    with Station("t0", IPV4) as station:
        assert arrivals(wide, station, 12) == [12, 0, 0, 0]


def test_frames_come_by_the_pairs_in_use_only(wide):
    with Station("t0", IPV4) as station:
        assert set_pairs(wide, 4) == OK
        spread = arrivals(wide, station, 32)
        assert sum(count > 0 for count in spread) > 1
        wide.fill(32, 2048)
        assert set_pairs(wide, 1) == OK
        assert arrivals(wide, station, 32) == [32, 0, 0, 0]


@pytest.mark.parametrize("pairs", [0, 5, 0x8000, 0xFFFF])
def test_impossible_numbers_of_pairs_are_refused(wide, pairs):
    assert set_pairs(wide, pairs) == ERROR
    assert set_pairs(wide, 2) == OK


def test_all_pairs_send(wide):
    assert set_pairs(wide, 4) == OK
    with Station("t0") as station:
        for pair in range(4):
            wide.send_frame(frame(bytes([pair])), pair=pair)
            assert station.receive().data[14] == pair


def test_pair_that_is_not_in_use_sends_nothing(wide):
    with Station("t0") as station:
        wide.send_frame(frame(b"x"), pair=2)
        assert station.silent()
    assert wide.counters()["tx_dropped"] == 1


def test_reset_leaves_one_pair_in_use(wide):
    assert set_pairs(wide, 4) == OK
    wide.start(buffers=32)
    with Station("t0", IPV4) as station:
        assert arrivals(wide, station, 32) == [32, 0, 0, 0]


def test_driver_of_one_pair_has_its_control_queue_third(taps):
    with NetMachine(taps.descriptors, BASIC | CTRL_RX) as machine:
        machine.driver.begin(BASIC | CTRL_RX)
        machine.queues = [machine.driver.queue(index, 16) for index in range(3)]
        machine.driver.ready()
        assert machine.control(RX, 0, b"\x01") == OK
        machine.fill(8, 2048)
        with Station("t0") as station:
            station.send(frame(b"one"))
            assert machine.receive().data[14:] == b"one"


def test_pairs_are_switched_under_traffic(wide):
    with Station("t0", IPV4) as station:
        for turn in range(30):
            for number in range(8):
                station.send(flow(number))
            assert set_pairs(wide, 1 + turn % 4) == OK
            for pair in range(4):
                while wide.queues[2 * pair].take() is not None:
                    wide.fill(1, 2048, pair=pair)
    assert not wide.driver.needs_reset


def test_taps_are_given_back_as_they_were(taps):
    for _ in range(2):
        with NetMachine(taps.descriptors, BASIC | MQ) as machine:
            machine.start()
            assert set_pairs(machine, 4) == OK
            assert set_pairs(machine, 2) == OK
