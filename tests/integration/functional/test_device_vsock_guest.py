# SPDX-License-Identifier: Apache-2.0
"""A tiny guest echoes virtio sockets: real doorbells, real interrupts."""

import contextlib
import os
import socket

import pytest

from kvm_shim.virtio.vsock import create_vsock
from tests.support.machines import GuestVm, move
from tests.support.vsock_guest import read_exactly

pytestmark = pytest.mark.kvm


@contextlib.contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener


def add_vsock(machine, listener, path):
    device = create_vsock(machine.vm, machine.place("_vsock0", 4), 3, listener.fileno(), str(path))
    machine.devices["vsock"] = device
    return device


@contextlib.contextmanager
def client(path, port):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        peer.sendall(b"CONNECT %d\n" % port)
        assert read_exactly(peer, 3) == b"OK "
        assert read_exactly(peer, 11)[-1:] == b"\n"
        yield peer


def echo(peer, size):
    data = os.urandom(size)
    peer.sendall(data)
    assert read_exactly(peer, size) == data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "v"


def test_many_clients_are_echoed_at_once(path):
    with GuestVm("vsock") as machine, listening(path) as listener, contextlib.ExitStack() as stack:
        device = add_vsock(machine, listener, path)
        machine.run()
        machine.console.expect(b"vsock ready")
        peers = [stack.enter_context(client(path, 7)) for _ in range(20)]
        data = [os.urandom(3000) for _ in peers]
        for peer, sent in zip(peers, data, strict=True):
            peer.sendall(sent)
        for peer, sent in zip(peers, data, strict=True):
            assert read_exactly(peer, len(sent)) == sent
        assert device.counters()["connections"] == 20
        for peer in peers:
            peer.shutdown(socket.SHUT_WR)
            assert peer.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"CONNECT 0\n")
            machine.expect_power_off()
        counters = device.counters()
        assert counters["rx_bytes"] == counters["tx_bytes"] == 60000
        assert counters["queue0_interrupts"] > 0
        assert counters["errors"] == 0


def test_the_guest_connects_and_echoes(path):
    with GuestVm("vsock", cmdline="connect=9") as machine, listening(path) as listener:
        add_vsock(machine, listener, path)
        with listening(f"{path}_9") as server:
            server.settimeout(20)
            machine.run()
            peer, _ = server.accept()
            with peer:
                echo(peer, 20000)


def test_pauses_lose_nothing(path):
    with GuestVm("vsock") as machine, listening(path) as listener:
        add_vsock(machine, listener, path)
        machine.run()
        with client(path, 7) as peer:
            for _ in range(10):
                data = os.urandom(5000)
                peer.sendall(data)
                machine.vm.pause()
                machine.vm.resume()
                assert read_exactly(peer, len(data)) == data


def test_the_guest_goes_on_in_another_vm(path):
    with GuestVm("vsock") as machine, GuestVm(None) as other, listening(path) as listener:
        add_vsock(machine, listener, path)
        machine.run()
        with client(path, 7) as peer:
            echo(peer, 1000)
            machine.vm.pause()
            add_vsock(other, listener, path)
            move(machine, other)
            machine.close()
            assert peer.recv(1) == b""
        other.run()
        with client(path, 7) as peer:
            echo(peer, 1000)
