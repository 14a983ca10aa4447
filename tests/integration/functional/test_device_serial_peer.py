# SPDX-License-Identifier: Apache-2.0
"""What a serial port can be connected to: pipes, sockets, files, terminals, nothing."""

import contextlib
import errno
import fcntl
import os
import pty
import select
import socket
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvm_shim
from tests.support.ports import Ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm

DATA, IER, IIR, LCR, MCR, LSR = range(6)
FCR = IIR
THRI, EMPTY, NONE = 2, 2, 1
LOOP = 0x10
DR, THRE, TEMT = 1, 0x20, 0x40
RING = 65536
TIMEOUT = 20.0


@pytest.fixture
def serial(vm):
    return vm.serial(0x3F8, 4)


@pytest.fixture
def ports(vm, serial):  # noqa: ARG001 - its registers
    return Ports(vm, 0x3F8)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe; the test may close them itself."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def send(ports: Ports, data: bytes) -> None:
    """Transmit as a guest that pays no heed to THRE."""
    for byte in data:
        ports.write(DATA, byte)


def read_exactly(fd: int, size: int) -> bytes:
    data = b""
    deadline = time.monotonic() + TIMEOUT
    while len(data) < size:
        readable, _, _ = select.select([fd], [], [], deadline - time.monotonic())
        assert readable, f"{len(data)} of {size} bytes came"
        part = os.read(fd, size - len(data))
        assert part, f"the end after {len(data)} of {size} bytes"
        data += part
    return data


def read_input(ports: Ports, size: int) -> bytes:
    data = bytearray()

    def received() -> bool:
        while ports.read(LSR) & DR:
            data.append(ports.read(DATA))
        return len(data) >= size

    wait_until(received)
    return bytes(data)


def expect_hangup(vm: kvm_shim.Vm) -> None:
    assert select.select([vm.event_fd], [], [], TIMEOUT)[0]
    event = vm.next_event()
    assert event is not None
    assert (event.kind, event.source) == (kvm_shim.EventKind.SERIAL_HANGUP, "serial")
    assert vm.next_event() is None


def run_idle_vcpu(vm: kvm_shim.Vm) -> None:
    """Run a vCPU that does nothing, so that there is something to pause."""
    vm.add_memory(0, 0x10000)
    vm.write_memory(0x1000, b"\xf4\xeb\xfd")  # hlt; jmp back to it
    vm.create_vcpu(0, 0)
    vm.set_cpuid(0, kvm_shim.supported_cpuid())
    vm.enter_linux64(0, kvm_shim.Boot(0x1000, 0, 0x8FF0, 0x500, 0x9000))
    vm.start()
    vm.resume()


def fill(fd: int) -> int:
    """Fill a pipe to the brim, through a description of our own."""
    writer = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    size = 0
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                size += os.write(writer, b"." * 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                size += os.write(writer, b".")
    finally:
        os.close(writer)
    return size


# -- nobody there --------------------------------------------------------------


def test_without_a_peer_the_latest_output_is_kept(serial, ports):
    text = bytes(range(256)) * (RING // 256)
    send(ports, b"forgotten" + text)
    assert ports.read(LSR) == THRE | TEMT
    assert serial.counters()["dropped"] == len(b"forgotten")
    with pipe() as (reader, writer):
        serial.attach(-1, writer)
        assert read_exactly(reader, RING) == text
        send(ports, b"!")
        assert read_exactly(reader, 1) == b"!"
    wait_until(lambda: serial.counters()["transmitted"] == RING + 1)


def test_detached_output_waits_for_the_next_peer(vm, serial, ports):
    with pipe() as (reader, writer), pipe() as (other_reader, other_writer):
        serial.attach(-1, writer)
        send(ports, b"one")
        assert read_exactly(reader, 3) == b"one"
        serial.detach()
        send(ports, b"two")
        serial.attach(-1, other_writer)
        assert read_exactly(other_reader, 3) == b"two"
        assert not select.select([reader], [], [], 0)[0]
    expect_hangup(vm)


# -- back-pressure ---------------------------------------------------------------


def test_slow_peer_holds_the_guest_back(serial, ports):
    with pipe() as (reader, writer):
        filled = fill(writer)
        serial.attach(-1, writer)
        ports.write(IER, THRI)
        sent = 0
        while ports.read(LSR) & THRE:
            ports.write(DATA, sent % 251)
            sent += 1
        assert sent == RING
        assert ports.read(LSR) & (THRE | TEMT) == 0
        assert ports.read(IIR) == NONE
        ports.write(DATA, 0xFF)
        assert serial.counters()["dropped"] == 1

        assert read_exactly(reader, filled) == b"." * filled
        wait_until(lambda: ports.read(LSR) & THRE != 0)
        assert ports.read(IIR) == EMPTY
        assert read_exactly(reader, RING) == bytes(i % 251 for i in range(RING))
        assert serial.counters() == {
            "transmitted": RING,
            "received": 0,
            "dropped": 1,
            "overruns": 0,
        }


def test_detaching_a_stuck_peer_lets_the_guest_go_on(serial, ports):
    with pipe() as (_, writer):
        fill(writer)
        serial.attach(-1, writer)
        send(ports, bytes(RING))
        assert ports.read(LSR) & THRE == 0
        serial.detach()
        assert ports.read(LSR) & THRE
        send(ports, b"next")


def test_stuck_peer_does_not_hold_the_end_up(vm, serial, ports):
    with pipe() as (_, writer):
        fill(writer)
        serial.attach(-1, writer)
        send(ports, bytes(100))
        start = time.monotonic()
        vm.close()
        assert time.monotonic() - start < TIMEOUT


def test_last_words_are_sent_at_the_end(vm, serial, ports):
    with pipe() as (reader, writer):
        serial.attach(-1, writer)
        send(ports, b"Power down.")
        vm.close()
        assert os.read(reader, 100) == b"Power down."


# -- input -----------------------------------------------------------------------


def test_input_longer_than_the_fifo(serial, ports):
    text = bytes(range(1, 256)) * 20
    ports.write(FCR, 1)
    with pipe() as (reader, writer):
        serial.attach(reader, -1)
        os.write(writer, text)
        assert read_input(ports, len(text)) == text
    assert serial.counters() == {
        "transmitted": 0,
        "received": len(text),
        "dropped": 0,
        "overruns": 0,
    }


def test_input_without_fifos(serial, ports):
    with pipe() as (reader, writer):
        serial.attach(reader, -1)
        os.write(writer, b"one by one")
        assert read_input(ports, 10) == b"one by one"


def test_loopback_cuts_the_line(serial, ports):
    with pipe() as (reader, writer):
        ports.write(MCR, LOOP)
        serial.attach(reader, -1)
        os.write(writer, b"later")
        ports.write(DATA, ord("l"))
        assert read_input(ports, 1) == b"l"
        assert ports.read(LSR) & DR == 0
        ports.write(MCR, 0)
        assert read_input(ports, 5) == b"later"


def test_input_file_ends_without_a_hangup(vm, serial, ports, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"x" * 40)
    with path.open("rb") as file:
        serial.attach(file.fileno(), -1)
        assert read_input(ports, 40) == b"x" * 40
    serial.detach()
    assert vm.next_event() is None


def test_end_of_an_input_pipe_is_a_hangup(vm, serial, ports):
    with pipe() as (reader, writer):
        serial.attach(reader, -1)
        os.write(writer, b"bye")
        os.close(writer)
        assert read_input(ports, 3) == b"bye"
        expect_hangup(vm)


# -- peers -----------------------------------------------------------------------


def test_output_file(serial, ports, tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"before ")
    with path.open("ab") as file:
        serial.attach(-1, file.fileno())
        send(ports, b"after")
        wait_until(lambda: path.read_bytes() == b"before after")


def test_dev_null_takes_everything(vm, serial, ports):
    with Path(os.devnull).open("r+b", buffering=0) as null:
        serial.attach(null.fileno(), null.fileno())
        send(ports, bytes(1000))
        wait_until(lambda: serial.counters()["transmitted"] == 1000)
    assert vm.next_event() is None


def test_broken_pipe_is_a_hangup_and_output_is_kept(vm, serial, ports):
    with pipe() as (reader, writer):
        serial.attach(-1, writer)
        os.close(reader)
        expect_hangup(vm)
        send(ports, b"kept")
        assert ports.read(LSR) == THRE | TEMT
    with pipe() as (reader, writer):
        serial.attach(-1, writer)
        assert read_exactly(reader, 4) == b"kept"


def test_socket_both_ways(vm, serial, ports):
    ours, peer = socket.socketpair()
    with peer:
        with ours:
            serial.attach(ours.fileno(), ours.fileno())
        peer.sendall(b"ping")
        assert read_input(ports, 4) == b"ping"
        send(ports, b"pong")
        assert read_exactly(peer.fileno(), 4) == b"pong"
    expect_hangup(vm)


def test_socket_that_only_stops_talking_still_listens(vm, serial, ports):
    ours, peer = socket.socketpair()
    with peer:
        with ours:
            serial.attach(ours.fileno(), ours.fileno())
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert read_input(ports, 1) == b"x"
        send(ports, b"answer")
        assert read_exactly(peer.fileno(), 6) == b"answer"
        assert vm.next_event() is None
    expect_hangup(vm)


def test_hangup_is_told_again_of_the_next_peer(vm, serial):
    for _ in range(2):
        ours, peer = socket.socketpair()
        with ours:
            serial.attach(ours.fileno(), ours.fileno())
        peer.close()
        expect_hangup(vm)


def test_pty_whose_reader_comes_and_goes(vm, serial, ports):
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    os.close(slave)
    try:
        serial.attach(master, master)
        for i in range(3):
            send(ports, b"kept %d\n" % i)
            slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
            try:
                assert read_exactly(slave, 7) == b"kept %d\n" % i
                send(ports, b"live")
                assert read_exactly(slave, 4) == b"live"
                os.write(slave, b"typed")
                assert read_input(ports, 5) == b"typed"  # and no echo of the output
            finally:
                os.close(slave)
        assert vm.next_event() is None
    finally:
        serial.detach()
        os.close(master)


def test_pty_whose_reader_is_back_before_it_is_missed(vm, serial, ports):
    run_idle_vcpu(vm)
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    try:
        serial.attach(master, master)
        vm.pause()
        os.close(slave)
        slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
        vm.resume()
        send(ports, b"live")
        assert read_exactly(slave, 4) == b"live"
        os.write(slave, b"typed")
        assert read_input(ports, 5) == b"typed"  # and no echo of the output
    finally:
        os.close(slave)
        serial.detach()
        os.close(master)


def test_pty_that_nobody_ever_opened_holds_nothing_back(vm, serial, ports):
    master, slave = pty.openpty()
    os.close(slave)
    try:
        serial.attach(master, master)
        send(ports, bytes(RING + 1))
        assert ports.read(LSR) & THRE
        assert vm.next_event() is None
    finally:
        serial.detach()
        os.close(master)


def test_terminal(serial, ports):
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        serial.attach(slave, slave)
        os.write(master, b"typed")
        assert read_input(ports, 5) == b"typed"
        send(ports, b"shown")
        assert read_exactly(master, 5) == b"shown"
        assert not fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK
    finally:
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize("kind", ["pipe", "pty"])
def test_the_callers_flags_are_as_before(serial, kind):
    first, second = os.pipe() if kind == "pipe" else pty.openpty()
    try:
        output = second if kind == "pipe" else first
        before = fcntl.fcntl(output, fcntl.F_GETFL)
        serial.attach(first if kind == "pty" else -1, output)
        serial.attach(first if kind == "pty" else -1, output)
        serial.detach()
        assert fcntl.fcntl(output, fcntl.F_GETFL) == before
    finally:
        os.close(first)
        os.close(second)


def test_unusable_files_are_refused(serial, ports):
    with pipe() as (reader, writer):
        serial.attach(-1, writer)
        for ends in ((-1, reader), (writer, -1)):
            with pytest.raises(kvm_shim.ShimError, match="not open for") as caught:
                serial.attach(*ends)
            assert caught.value.errno == errno.EINVAL
        with pytest.raises(kvm_shim.ShimError) as caught:
            serial.attach(reader, 1 << 20)
        assert caught.value.errno == errno.EBADF
        ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
        with ours, peer, pytest.raises(kvm_shim.ShimError, match="not a stream"):
            serial.attach(ours.fileno(), ours.fileno())
        send(ports, b"unhurt")
        assert read_exactly(reader, 6) == b"unhurt"


# -- pause and saved state -------------------------------------------------------


def test_pause_sends_what_there_is_and_holds_the_rest(vm, serial, ports):
    run_idle_vcpu(vm)
    with pipe() as (reader, writer), pipe() as (input_reader, input_writer):
        serial.attach(input_reader, writer)
        send(ports, b"before")
        vm.pause()
        assert os.read(reader, 100) == b"before"
        os.write(input_writer, b"typed")
        send(ports, b"meanwhile")
        assert serial.save() == serial.save()
        assert ports.read(LSR) & DR == 0
        vm.resume()
        assert read_exactly(reader, 9) == b"meanwhile"
        assert read_input(ports, 5) == b"typed"


def test_unsent_output_moves_to_another_vm(serial, ports):
    send(ports, b"sent by the other one")
    state = serial.save()
    with kvm_shim.Vm() as other, pipe() as (reader, writer):
        restored = other.serial(0x3F8, 4)
        restored.attach(-1, writer)
        restored.load(state)
        assert read_exactly(reader, 21) == b"sent by the other one"


def test_full_ring_wraps_and_moves(serial, ports):
    text = bytes(i % 253 for i in range(RING + 1000))
    send(ports, text)
    with kvm_shim.Vm() as other, pipe() as (reader, writer):
        restored = other.serial(0x3F8, 4)
        restored.load(serial.save())
        restored.attach(-1, writer)
        assert read_exactly(reader, RING) == text[-RING:]
