# SPDX-License-Identifier: Apache-2.0
"""A guest that sends back what it receives, over a tap."""

import os
import struct

import pytest

from kvm_shim import EventKind
from kvm_shim.virtio.net import NetConfig, create_net
from tests.support.machines import GuestVm, move
from tests.support.net import MAC, frame, tcp_frame
from tests.support.network import Station

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]


def with_net(guest, tap):
    config = NetConfig(tap.descriptors, MAC)
    guest.devices["net"] = create_net(guest.vm, guest.place("_net", 3), config)
    return guest


def test_frames_come_back(tap):
    with with_net(GuestVm("netecho", cmdline="frames=64"), tap) as guest, Station("t0") as station:
        guest.run()
        guest.console.expect(b"net ready\n")
        for size in range(64):
            sent = frame(os.urandom(46 + 20 * size))
            station.send(sent)
            assert station.receive().data == sent.data
        guest.expect_event(EventKind.DEVICE_ACTIVATED, "_net")
        guest.expect_power_off()
        counters = guest.devices["net"].counters()
        assert counters["rx_frames"] == counters["tx_frames"] == 64
        assert 0 < counters["queue0_interrupts"] <= 64
        assert counters["queue1_notifications"] <= 66


def test_frames_to_be_segmented_come_back_in_one_piece(tap):
    with (
        with_net(GuestVm("netecho", cmdline="frames=8 offloads"), tap) as guest,
        Station("t0", 0x0800) as station,
    ):
        guest.run()
        guest.console.expect(b"net ready\n")
        for number in range(8):
            sent = tcp_frame(60000)
            station.send(sent)
            received = station.receive()
            assert received.data == sent.data
            assert (received.gso_type, received.gso_size) == (1, 1448)
            # Until it has all of its few buffers back there is no room for another so long.
            guest.wait_for_counts_above([number])
        guest.console.expect(b"net done\n")


def test_guest_goes_on_in_another_vm(tap):
    guest = with_net(GuestVm("netecho", cmdline="frames=1000"), tap).run()
    try:
        guest.console.expect(b"net ready\n")
        with Station("t0") as station:
            for turn in range(6):
                sent = [frame(struct.pack("<I", number) * 20) for number in range(10)]
                for each in sent:
                    station.send(each)
                guest.wait_for_counts_above([10 * turn])
                guest.vm.pause()
                following = with_net(GuestVm(None), tap)
                move(guest, following)
                guest.close()
                guest = following.run()
                for each in sent:
                    assert station.receive().data == each.data
    finally:
        guest.close()
