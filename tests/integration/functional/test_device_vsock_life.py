# SPDX-License-Identifier: Apache-2.0
"""A vsock device through the life of its VM: pause, reset, another host; and its creation."""

import errno
import socket
import time

import pytest

import kvm_shim
from kvm_shim.virtio.place import Place
from kvm_shim.virtio.vsock import create_vsock
from tests.support.ports import forged, payload_of
from tests.support.virtio_driver import wait_until
from tests.support.vsock_guest import MEMORY, Op, VsockGuest, VsockVm, read_exactly

pytestmark = pytest.mark.kvm


@pytest.fixture
def machine(tmp_path):
    with VsockVm(tmp_path / "v") as machine:
        yield machine


@pytest.fixture
def guest(machine):
    return VsockGuest(machine)


def test_connections_outlive_a_pause(machine, guest):
    machine.run_idle_vcpu()
    with machine.client(b"CONNECT 1\n") as client, machine.client(b"CONNECT 2\n") as late:
        ports = guest.accept(client)
        request = guest.expect(Op.REQUEST)
        machine.vm.pause()
        client.sendall(b"while it sleeps")
        guest.send(Op.RW, ports, b"slowly")
        time.sleep(2.1)  # longer than a guest may take to answer
        assert guest.poll() is None
        machine.vm.resume()
        assert guest.read(ports, 15) == b"while it sleeps"
        assert read_exactly(client, 6) == b"slowly"
        guest.send(Op.RESPONSE, (2, request.src_port))
        assert read_exactly(late, 3) == b"OK "


def test_a_reset_of_the_guest_closes_all_and_keeps_the_listener(machine, guest):
    with machine.client(b"CONNECT 1\n") as client, machine.client(b"CONNECT 2\n") as other:
        guest.accept(client)
        guest.expect(Op.REQUEST)
        guest.driver.reset()
        assert client.recv(1) == b""
        assert other.recv(1) == b""
    assert machine.counter("connections") == 0
    with machine.client(b"CONNECT 3\n") as client:
        guest = VsockGuest(machine)
        ports = guest.accept(client)
        client.sendall(b"again")
        assert guest.read(ports, 5) == b"again"


def test_another_vm_takes_the_guest_over_without_its_connections(machine, guest, tmp_path):
    machine.run_idle_vcpu()
    with machine.client(b"CONNECT 1\n") as client:
        ports = guest.accept(client)
        machine.vm.pause()
        state = machine.device.save()
        memory = machine.vm.read_memory(0, MEMORY)
        with VsockVm(tmp_path / "other") as other:
            moved = guest.move(other)
            other.vm.write_memory(0, memory)
            other.device.load(state)
            other.run_idle_vcpu()
            assert moved.event.used_index() == 0
            moved.give_event_buffer()
            wait_until(lambda: moved.event.used_index() == 1)
            assert moved.event.take_used() == bytes(4)  # TRANSPORT_RESET
            moved.send(Op.RW, ports, b"lost")
            moved.expect(Op.RST, ports)
            with other.client(b"CONNECT 2\n") as new:
                assert moved.accept(new)[1] == ports[1] + 1


@pytest.mark.parametrize(("offset", "data"), [(3, b"\x80"), (3, b"\0")])
def test_forged_state_is_refused(machine, offset, data):
    state = machine.device.save()
    with pytest.raises(kvm_shim.ShimError) as caught:
        machine.device.load(forged(state, len(payload_of(state)) - 4 + offset, data))
    assert caught.value.errno == errno.EINVAL
    assert machine.device.save() == state


@pytest.mark.parametrize("cid", [0, 1, 2, 0xFFFFFFFF])
def test_reserved_cids_are_refused(vm, tmp_path, cid):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "v"))
        listener.listen()
        place = Place(vm.pci(0xE8000000), "v", 1, 0)
        with pytest.raises(kvm_shim.ShimError, match="CID"):
            create_vsock(vm, place, cid, listener.fileno(), str(tmp_path / "v"))


def test_listeners_and_paths_of_no_use_are_refused(vm, tmp_path):
    place = Place(vm.pci(0xE8000000), "v", 1, 0)
    with socket.socket(socket.AF_UNIX) as unbound, socket.socket(socket.AF_UNIX) as listener:
        with pytest.raises(kvm_shim.ShimError, match="does not listen"):
            create_vsock(vm, place, 3, unbound.fileno(), "v")
        with pytest.raises(kvm_shim.ShimError, match="listener -1"):
            create_vsock(vm, place, 3, -1, "v")
        listener.bind(str(tmp_path / "v"))
        listener.listen()
        with pytest.raises(kvm_shim.ShimError, match="_<port>"):
            create_vsock(vm, place, 3, listener.fileno(), "x" * 97)
