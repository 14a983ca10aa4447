# SPDX-License-Identifier: Apache-2.0
"""The virtio console, from a guest's driver to each kind of file on the host."""

import contextlib
import errno
import os
import pty
import select
import socket
import time
from collections.abc import Iterator

import pytest

import kvm_shim
from kvm_shim import EventKind, ShimError
from kvm_shim.virtio.console import Console as ConsoleDevice
from kvm_shim.virtio.console import create_console
from tests.support.console import Console
from tests.support.machines import GuestVm, move
from tests.support.ports import forged
from tests.support.terminal import set_window
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm

DATA = 0x240000
"""Where the guest has what it is to send as one buffer."""
RING = 65536
TEXT = bytes(i % 251 for i in range(3 * RING))


@contextlib.contextmanager
def console_guest(*, send: int = 0, guest: str | None = "console") -> Iterator[GuestVm]:
    with GuestVm(guest, cmdline=f"send={send}") as machine:
        machine.vm.write_memory(DATA, TEXT[:send] or b"-")
        machine.devices["console"] = create_console(machine.vm, machine.place("__console", 1))
        yield machine


def device_of(machine: GuestVm) -> ConsoleDevice:
    device = machine.devices["console"]
    assert isinstance(device, ConsoleDevice)
    return device


@contextlib.contextmanager
def connected(machine: GuestVm) -> Iterator[Console]:
    """Attach one end of a socket that holds little, and lend the other."""
    console, line = Console.pair()
    with console, line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        device_of(machine).attach(line.fileno(), line.fileno())
        yield console


def ready(machine: GuestVm) -> None:
    machine.run()
    machine.console.expect(b"console ready\n")


def nothing_told(machine: GuestVm) -> bool:
    """Whether all events are of the guest's driver."""
    while (event := machine.vm.next_event()) is not None:
        if event.kind is not EventKind.DEVICE_ACTIVATED:
            return False
    return True


# -- a guest that reads and writes -------------------------------------------------


def test_both_ways():
    with console_guest() as guest, connected(guest) as console:
        ready(guest)
        console.expect(b"0x0\n")
        console.send(b"echo this")
        console.expect(b"echo this")
        console.send(b"q")
        guest.expect_power_off()
        console.expect(b"q")
        counters = device_of(guest).counters()
        assert counters["transmitted"] == len(console.output) == 14
        assert counters["received"] == 10
        assert counters["dropped"] == 0


def test_more_input_than_the_guest_has_buffers_for():
    text = bytes(ord("a") + i % 16 for i in range(4000))
    with console_guest() as guest, connected(guest) as console:
        ready(guest)
        console.send(text)
        console.expect(text)


def test_input_typed_before_the_guest_listens_waits_in_the_hosts_file():
    with console_guest() as guest, connected(guest) as console:
        console.send(b"early")
        assert device_of(guest).counters()["received"] == 0
        ready(guest)
        console.expect(b"early")


def test_a_large_buffer_is_sent_whole_and_in_order():
    with console_guest(send=len(TEXT)) as guest, connected(guest) as console:
        ready(guest)
        console.expect(b"0x0\n" + TEXT)
        guest.console.expect(b"sent\n")


# -- its size ----------------------------------------------------------------------


def test_the_guest_hears_of_the_size_and_of_each_change():
    with console_guest() as guest, connected(guest) as console:
        device_of(guest).resize(80, 25)
        ready(guest)
        console.expect(b"80x25\n")
        for columns, rows in ((132, 43), (1, 65535), (0, 0)):
            device_of(guest).resize(columns, rows)
            console.expect(b"%dx%d\n" % (columns, rows))


def test_a_size_that_is_none_is_not_told():
    with console_guest() as guest, connected(guest) as console:
        device_of(guest).resize(80, 25)
        ready(guest)
        console.expect(b"80x25\n")
        device_of(guest).resize(80, 25)
        console.send(b"x")
        console.expect(b"x")
        assert bytes(console.output) == b"80x25\nx"


# -- who is at the other end --------------------------------------------------------


def test_a_pty_whose_client_comes_and_goes_and_has_a_window():
    main, client = pty.openpty()
    name = os.ttyname(client)
    os.close(client)
    with console_guest() as guest:
        device_of(guest).attach(main, main)
        ready(guest)
        for i, size in enumerate((b"100x30", b"90x20")):
            client = os.open(name, os.O_RDWR | os.O_NOCTTY)
            with Console(client) as console:
                if i == 0:
                    console.expect(b"0x0\n")
                columns, rows = (int(number) for number in size.split(b"x"))
                set_window(client, columns, rows)
                console.expect(size + b"\n")
                console.send(b"typed")
                console.expect(b"typed")
        with Console(os.open(name, os.O_RDWR | os.O_NOCTTY)) as one:
            other = os.open(name, os.O_RDWR | os.O_NOCTTY)
            os.close(other)  # One of two that leaves is none that is missed.
            one.send(b"on")
            one.expect(b"on")
        assert nothing_told(guest)
    os.close(main)


def test_a_socket_whose_peer_leaves():
    with console_guest() as guest:
        with connected(guest) as console:
            ready(guest)
            console.expect(b"0x0\n")
        guest.expect_event(EventKind.SERIAL_HANGUP, "__console")
        device_of(guest).resize(80, 25)
        wait_until(lambda: device_of(guest).counters()["queue1_requests"] == 2)
        with connected(guest) as console:
            console.expect(b"80x25\n")  # It was kept.
            console.send(b"x")
            console.expect(b"x")


def test_a_file(tmp_path):
    path = tmp_path / "output"
    with console_guest(send=len(TEXT)) as guest:
        with path.open("wb") as file:
            device_of(guest).attach(-1, file.fileno())
        ready(guest)
        guest.console.expect(b"sent\n")
        wait_until(lambda: path.read_bytes() == b"0x0\n" + TEXT)
        assert nothing_told(guest)


def test_nobody_holds_nothing_back_and_the_latest_is_kept():
    with console_guest(send=len(TEXT)) as guest:
        ready(guest)
        guest.console.expect(b"sent\n")
        assert device_of(guest).counters()["dropped"] == len(TEXT) + 4 - RING
        with connected(guest) as console:
            console.expect(TEXT[-RING:])
            assert len(console.output) == RING


def test_a_peer_that_does_not_listen_holds_the_guest_back():
    with console_guest(send=len(TEXT)) as guest, connected(guest) as console:
        ready(guest)
        transmitted = -1
        while transmitted != device_of(guest).counters()["transmitted"]:
            transmitted = device_of(guest).counters()["transmitted"]
            time.sleep(0.2)
        assert transmitted + RING < len(TEXT)
        guest.console.read()
        assert b"sent" not in guest.console.output
        console.expect(b"0x0\n" + TEXT)
        guest.console.expect(b"sent\n")
        assert device_of(guest).counters()["dropped"] == 0


def test_the_guests_last_words_are_sent():
    with console_guest() as guest:
        console, line = Console.pair()
        with console, line:
            device_of(guest).attach(-1, line.fileno())
            ready(guest)
            guest.close()
            console.expect(b"0x0\n")


# -- pause and saved state -----------------------------------------------------------


def test_paused_it_neither_reads_nor_writes():
    with console_guest() as guest, connected(guest) as console:
        ready(guest)
        console.expect(b"0x0\n")
        guest.vm.pause()
        console.send(b"typed meanwhile")
        state = device_of(guest).save()
        time.sleep(0.05)
        assert device_of(guest).save() == state
        assert device_of(guest).counters()["received"] == 0
        guest.vm.resume()
        console.expect(b"typed meanwhile")


def test_output_goes_on_in_another_vm_where_it_was():
    """In the midst of a buffer that its peer is too slow for; each byte comes once."""
    with (
        console_guest(send=len(TEXT)) as source,
        console_guest(guest=None) as target,
        connected(source) as first,
    ):
        ready(source)
        first.expect(TEXT[:1000])
        source.vm.pause()
        move(source, target)
        assert device_of(target).save() == device_of(source).save()
        source.close()
        while first.read():
            pass
        with connected(target) as second:
            target.run()
            second.expect((b"0x0\n" + TEXT)[len(first.output) :])
            target.console.expect(b"sent\n")
            second.send(b"on")
            second.expect(b"on")
        assert bytes(first.output + second.output) == b"0x0\n" + TEXT + b"on"


def test_what_nobody_took_is_there_in_another_vm():
    with console_guest(send=1000) as source, console_guest(guest=None) as target:
        ready(source)
        source.console.expect(b"sent\n")
        source.vm.pause()
        move(source, target)
        target.run()
        with connected(target) as console:
            console.expect(b"0x0\n" + TEXT[:1000])


def test_forged_states_are_refused():
    with console_guest() as guest:
        device = device_of(guest)
        state = device.save()
        ring = len(state) - (4 + RING) - 56  # the last of its payload, after a header of 56
        with pytest.raises(ShimError, match="65537 bytes to send") as caught:
            device.load(forged(state, ring, (RING + 1).to_bytes(4, "little")))
        assert caught.value.errno == errno.EINVAL
        assert device.save() == state


def test_the_console_of_no_console_is_refused():
    with console_guest() as guest:
        ged = ConsoleDevice(guest.ged._handle, guest.ged.pointer)
        for call in (ged.detach, lambda: ged.attach(-1, -1), lambda: ged.resize(1, 1)):
            with pytest.raises(ShimError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL
        assert isinstance(guest.vm, kvm_shim.Vm)


def test_a_datagram_socket_is_refused():
    with console_guest() as guest:
        ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
        with ours, peer, pytest.raises(ShimError, match="not a stream"):
            device_of(guest).attach(ours.fileno(), ours.fileno())
        assert not select.select([guest.vm.event_fd], [], [], 0)[0]
