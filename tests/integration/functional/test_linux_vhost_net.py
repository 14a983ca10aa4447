# SPDX-License-Identifier: Apache-2.0
"""The kernel's vhost-net in the place of our own way of frames.

The guest is a tiny one; the tier is that of Linux guests because the testbed has the module.
"""

import contextlib
import os
import struct

import pytest

import kvm_shim
from kvm_shim.virtio.limiter import create_limiter
from kvm_shim.virtio.net import NetConfig, create_net
from tests.support.guests import build
from tests.support.machines import GuestVm
from tests.support.net import MAC, NetMachine, frame
from tests.support.net_echo import FRAMES, SEGMENTED, echo_frames, echo_over_moves, echo_segmented
from tests.support.network import Station, Taps
from tests.support.processes import start_worker, vm_config

pytestmark = [pytest.mark.linux, pytest.mark.usefixtures("network")]

VHOST_NET = "/dev/vhost-net"
BASIC = 1 << 15 | 1 << 16 | 1 << 17 | 1 << 29
MQ = 1 << 22


@contextlib.contextmanager
def vhosts(count=1):
    with contextlib.ExitStack() as stack:
        descriptors = [os.open(VHOST_NET, os.O_RDWR | os.O_CLOEXEC) for _ in range(count)]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        yield descriptors


def with_net(guest, tap, *, vhost=True):
    with vhosts(int(vhost)) as descriptors:
        config = NetConfig(tap.descriptors, MAC, descriptors)
        guest.devices["net"] = create_net(guest.vm, guest.place("_net", 3), config)
    return guest


def test_frames_come_back(tap):
    with with_net(GuestVm("netecho", cmdline=f"frames={FRAMES}"), tap) as guest:
        echo_frames(guest)
        guest.console.expect(b"net done\n")
        assert "rx_frames" not in guest.devices["net"].counters()


def test_frames_to_be_segmented_come_back_in_one_piece(tap):
    with with_net(GuestVm("netecho", cmdline=f"frames={SEGMENTED} offloads"), tap) as guest:
        echo_segmented(guest)


def test_guest_pauses_and_goes_on_in_another_vm(tap):
    """Each time with the other's way of frames: the positions in the rings are the same."""
    guest = with_net(GuestVm("netecho", cmdline="frames=1000"), tap)
    echo_over_moves(guest, lambda turn: with_net(GuestVm(None), tap, vhost=turn % 2 == 1))


def test_pairs_are_set_while_the_kernel_runs_them():
    with (
        Taps("t0", queues=2) as taps,
        vhosts(2) as descriptors,
        Station("t0") as station,
        NetMachine(taps.descriptors, BASIC | MQ, vhosts=descriptors) as machine,
    ):
        machine.run().start(buffers=8)
        for pairs in (2, 1, 2):
            assert machine.control(4, 0, struct.pack("<H", pairs)) == 0
            machine.send_frame(frame(bytes([pairs]) * 50))
            assert station.receive().data[14] == pairs
        machine.send_frame(frame(b"second" * 9), pair=1)
        assert station.receive().data[14:20] == b"second"
        station.send(frame(b"received" * 9))
        machine.vm.pause()
        machine.vm.resume()
        machine.start(buffers=8)  # the driver resets the device
        machine.send_frame(frame(b"again" * 10))
        assert station.receive().data[14:19] == b"again"


def test_ring_that_is_broken_needs_a_reset(tap):
    with vhosts() as descriptors, NetMachine(tap.descriptors, BASIC, vhosts=descriptors) as machine:
        machine.run().start()
        machine.queues[1].write_descriptor(0, 1 << 40, 100, 0)
        machine.queues[1].offer(0)
        machine.queues[1].kick()
        event = None
        while event is None or event.kind is not kvm_shim.EventKind.DEVICE_LOG:
            event = machine.vm.next_event()
        assert machine.driver.needs_reset


def test_rate_limits_are_not_for_the_kernel(tap):
    with (
        vhosts() as descriptors,
        pytest.raises(kvm_shim.ShimError, match="does not know rate limits"),
    ):
        NetMachine(tap.descriptors, vhosts=descriptors, rx_limiter=create_limiter)


@pytest.mark.parametrize(
    ("more", "used"),
    [
        ({}, 1),
        ({"vhost": False}, 0),
        ({"rate_limiter_config": {"ops": {"size": 10, "refill_time": 10}}}, 0),
    ],
)
def test_worker_uses_the_kernel_where_it_can(tmp_path, more, used):
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", vm_config(build("count"), net=[more]))
        worker.call("vm.boot")
        for _ in range(2):
            assert worker.descriptors().count(VHOST_NET) == used
            worker.call("vm.reboot")
