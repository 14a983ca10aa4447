# SPDX-License-Identifier: Apache-2.0
"""What a guest that sends frames back shows of its network device, whoever moves its frames.

Each function takes a guest `netecho` whose device is on the tap `t0`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from tests.support.machines import GuestVm, move
from tests.support.net import frame, tcp_frame
from tests.support.network import Station

__all__ = ["FRAMES", "SEGMENTED", "echo_frames", "echo_over_moves", "echo_segmented"]

FRAMES = 64
"""Of :func:`echo_frames`; the guest is to be told."""
SEGMENTED = 8
"""Of :func:`echo_segmented`; the guest is to be told, and to take offloads."""


def echo_frames(guest: GuestVm) -> None:
    """Have frames of many sizes come back as they were."""
    with Station("t0") as station:
        guest.run()
        guest.console.expect(b"net ready\n")
        for size in range(FRAMES):
            sent = frame(os.urandom(46 + 20 * size))
            station.send(sent)
            assert station.receive().data == sent.data


def echo_segmented(guest: GuestVm) -> None:
    """Have frames that are to be segmented come back in one piece, and the guest end."""
    with Station("t0", 0x0800) as station:
        guest.run()
        guest.console.expect(b"net ready\n")
        for number in range(SEGMENTED):
            sent = tcp_frame(60000)
            station.send(sent)
            received = station.receive()
            assert received.data == sent.data
            assert (received.gso_type, received.gso_size) == (1, 1448)
            # Until it has all of its few buffers back there is no room for another so long.
            guest.wait_for_counts_above([number])
        guest.console.expect(b"net done\n")


def echo_over_moves(guest: GuestVm, following: Callable[[int], GuestVm]) -> None:
    """Pause the guest, and have it go on in another VM, again and again, with frames on the way.

    Args:
        guest: Where it begins, with a thousand frames to go.
        following: Makes the VM for each turn from 0 on.
    """
    guest.run()
    try:
        guest.console.expect(b"net ready\n")
        with Station("t0") as station:
            for turn in range(6):
                sent = [frame(struct.pack("<I", number) * 20) for number in range(10)]
                for each in sent:
                    station.send(each)
                guest.wait_for_counts_above([10 * turn])
                guest.vm.pause()
                guest.vm.resume()
                guest.wait_for_counts_above([10 * turn + 2])
                guest.vm.pause()
                target = following(turn)
                move(guest, target)
                guest.close()
                guest = target.run()
                for each in sent:
                    assert station.receive().data == each.data
    finally:
        guest.close()
