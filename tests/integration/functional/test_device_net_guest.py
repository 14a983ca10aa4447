# SPDX-License-Identifier: Apache-2.0
"""A guest that sends back what it receives, over a tap."""

import pytest

from kvm_shim import EventKind
from kvm_shim.virtio.net import NetConfig, create_net
from tests.support.machines import GuestVm
from tests.support.net import MAC
from tests.support.net_echo import FRAMES, SEGMENTED, echo_frames, echo_over_moves, echo_segmented

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]


def with_net(guest, tap):
    config = NetConfig(tap.descriptors, MAC)
    guest.devices["net"] = create_net(guest.vm, guest.place("_net", 3), config)
    return guest


def test_frames_come_back(tap):
    with with_net(GuestVm("netecho", cmdline=f"frames={FRAMES}"), tap) as guest:
        echo_frames(guest)
        guest.expect_event(EventKind.DEVICE_ACTIVATED, "_net")
        guest.expect_power_off()
        counters = guest.devices["net"].counters()
        assert counters["rx_frames"] == counters["tx_frames"] == FRAMES
        assert 0 < counters["queue0_interrupts"] <= FRAMES
        assert counters["queue1_notifications"] <= FRAMES + 2


def test_frames_to_be_segmented_come_back_in_one_piece(tap):
    with with_net(GuestVm("netecho", cmdline=f"frames={SEGMENTED} offloads"), tap) as guest:
        echo_segmented(guest)


def test_guest_pauses_and_goes_on_in_another_vm(tap):
    guest = with_net(GuestVm("netecho", cmdline="frames=1000"), tap)
    echo_over_moves(guest, lambda _: with_net(GuestVm(None), tap))
