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
from tests.support.vsock_guest import MEMORY, Op, VsockGuest, VsockVm, read_exactly
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kvm


def test_connections_outlive_a_pause(vsock, vsock_guest):
    vsock.run_idle_vcpu()
    with vsock.client(b"CONNECT 1\n") as client, vsock.client(b"CONNECT 2\n") as late:
        ports = vsock_guest.accept(client)
        request = vsock_guest.expect(Op.REQUEST)
        vsock.vm.pause()
        client.sendall(b"while it sleeps")
        vsock_guest.send(Op.RW, ports, b"slowly")
        time.sleep(2.1)  # longer than a guest may take to answer
        assert vsock_guest.poll() is None
        vsock.vm.resume()
        assert vsock_guest.read(ports, 15) == b"while it sleeps"
        assert read_exactly(client, 6) == b"slowly"
        vsock_guest.send(Op.RESPONSE, (2, request.src_port))
        assert read_exactly(late, 3) == b"OK "


def test_a_reset_of_the_guest_closes_all_and_keeps_the_listener(vsock, vsock_guest):
    with vsock.client(b"CONNECT 1\n") as client, vsock.client(b"CONNECT 2\n") as other:
        vsock_guest.accept(client)
        vsock_guest.expect(Op.REQUEST)
        vsock_guest.driver.reset()
        assert client.recv(1) == b""
        assert other.recv(1) == b""
    assert vsock.counter("connections") == 0
    with vsock.client(b"CONNECT 3\n") as client:
        vsock_guest = VsockGuest(vsock)
        ports = vsock_guest.accept(client)
        client.sendall(b"again")
        assert vsock_guest.read(ports, 5) == b"again"


def test_another_vm_takes_the_guest_over_without_its_connections(vsock, vsock_guest, tmp_path):
    vsock.run_idle_vcpu()
    with vsock.client(b"CONNECT 1\n") as client:
        ports = vsock_guest.accept(client)
        vsock.vm.pause()
        state = vsock.device.save()
        memory = vsock.vm.read_memory(0, MEMORY)
        with VsockVm(tmp_path / "other") as other:
            moved = vsock_guest.move(other)
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
def test_forged_state_is_refused(vsock, offset, data):
    state = vsock.device.save()
    with pytest.raises(kvm_shim.ShimError) as caught:
        vsock.device.load(forged(state, len(payload_of(state)) - 4 + offset, data))
    assert caught.value.errno == errno.EINVAL
    assert vsock.device.save() == state


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
