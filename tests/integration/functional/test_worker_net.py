# SPDX-License-Identifier: Apache-2.0
"""Network devices as a worker has them: taps that it makes or finds, and what it tells."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc_protocol.config_devices import NetConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from tests.support.guests import build
from tests.support.network import Taps
from tests.support.processes import eventually, start_worker, vm_config
from vmm_worker.devices.interface import Interface
from vmm_worker.devices.net import Net

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("network")]

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
TAP, NO_PI, MULTI_QUEUE = 0x2, 0x1000, 0x100
UP = 1


def make_tap(name: str, flags: int = TAP | NO_PI) -> None:
    """Do as ``ip tuntap add`` does."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    finally:
        os.close(descriptor)


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def ioctl(name: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, struct.pack("16s24x", name.encode()))


@pytest.fixture
def opened() -> Iterator[list[Net]]:
    backends: list[Net] = []
    yield backends
    for backend in backends:
        backend.close()


def open_net(opened: list[Net], **config: object) -> Net:
    opened.append(Net("_net0", NetConfig(**config), pointer="/net/0"))  # type: ignore[arg-type]
    return opened[-1]


def refusal(**config: object) -> tuple[str, str, tuple[str, ...]]:
    """Return pointer, message and causes of a configuration that is refused."""
    descriptors = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(VmFailure) as caught:
        Net("_net0", NetConfig(**config), pointer="/net/0")  # type: ignore[arg-type]
    assert set(Path("/proc/self/fd").iterdir()) == descriptors
    error = caught.value.error
    assert error.code is ErrorCode.HOST_RESOURCE
    return error.fields[0].pointer, error.message, error.causes


def test_interface_is_made_and_removed(opened: list[Net]) -> None:
    first = open_net(opened)
    second = open_net(opened)
    assert (first.found()["tap"], second.found()["tap"]) == ("vmtap0", "vmtap1")
    first.close()
    assert names() == {"lo", "vmtap1"}
    first.close()


def test_interface_is_made_under_a_name_and_set_up(opened: list[Net]) -> None:
    open_net(
        opened,
        tap="guest0",
        ip="192.168.7.1",
        mask="255.255.255.0",
        host_mac="52:54:00:aa:bb:cc",
        mtu=9000,
    )
    assert ioctl("guest0", 0x8915)[20:24] == bytes([192, 168, 7, 1])
    assert ioctl("guest0", 0x891B)[20:24] == bytes([255, 255, 255, 0])
    assert ioctl("guest0", 0x8927)[18:24] == bytes.fromhex("525400aabbcc")
    interface = Interface("guest0")
    assert interface.mtu == 9000
    assert ioctl("guest0", 0x8913)[16] & UP


def test_interface_gets_an_ipv6_address(opened: list[Net]) -> None:
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("0")
    open_net(opened, tap="guest0", ip="fd00::1", mask="ffff:ffff:ffff:ffff::")
    addresses = Path("/proc/thread-self/net/if_inet6").read_text()
    assert "fd000000000000000000000000000001" in addresses
    assert [line.split()[2] for line in addresses.splitlines() if line.startswith("fd00")] == ["40"]


@pytest.mark.parametrize(("flags", "queues"), [(0, 2), (MULTI_QUEUE, 2), (MULTI_QUEUE, 8)])
def test_interface_that_is_there_is_used_and_left(
    opened: list[Net], flags: int, queues: int
) -> None:
    make_tap("there0", TAP | NO_PI | flags)
    net = open_net(opened, tap="there0", num_queues=queues)
    assert net.found()["tap"] == "there0"
    net.close()
    assert "there0" in names()
    open_net(opened, tap="there0", num_queues=queues)


def test_address_of_the_guest_is_drawn_once(opened: list[Net]) -> None:
    drawn = {str(open_net(opened).found()["mac"]) for _ in range(20)}
    assert len(drawn) == 20
    assert all(int(mac[:2], 16) & 3 == 2 for mac in drawn)  # local, of one station
    given = open_net(opened, mac="52:54:00:12:34:56")
    assert given.found()["mac"] == "52:54:00:12:34:56"


@pytest.mark.parametrize("queues", [1, 2])
def test_interface_in_use_is_refused(queues: int) -> None:
    with Taps("busy0", queues):
        pointer, message, _ = refusal(tap="busy0", num_queues=2 * queues)
        assert pointer == "/net/0/tap"
        assert "busy0 is in use by another process" in message


def test_interface_that_is_no_tap_is_refused() -> None:
    pointer, message, _ = refusal(tap="lo")
    assert pointer == "/net/0/tap"
    assert "ip tuntap add lo mode tap" in message


def test_tap_of_one_queue_is_not_enough_for_two() -> None:
    make_tap("there0")
    _, message, _ = refusal(tap="there0", num_queues=4)
    assert "no tap for 2 queues" in message
    assert "multi_queue" in message
    assert "there0" in names()


def test_setting_that_the_kernel_refuses_names_its_field() -> None:
    pointer, message, causes = refusal(tap="t0", host_mac="01:00:00:00:00:01")
    assert pointer == "/net/0/host_mac"
    assert "cannot be set to 01:00:00:00:00:01 on t0" in message
    assert causes
    assert names() == {"lo"}


def test_worker_keeps_interface_and_address_over_a_reboot(tmp_path: Path) -> None:
    config = vm_config(build("count"), net=[{}, {"id": "uplink", "tap": "up0", "num_queues": 2}])
    with start_worker(tmp_path) as worker:
        worker.call("vm.create", config)
        worker.call("vm.boot")
        shown = worker.info().config.net
        assert [(each.id, each.tap) for each in shown] == [("_net0", "vmtap0"), ("uplink", "up0")]
        assert None not in {each.mac for each in shown}
        assert names() == {"lo", "vmtap0", "up0"}
        index = socket.if_nametoindex("vmtap0")
        worker.call("vm.reboot")
        assert worker.info().config.net == shown
        assert socket.if_nametoindex("vmtap0") == index
        assert "queue0_requests" in worker.call("vm.counters")["uplink"]
        by_ourselves = "/dev/vhost-net: No such file or directory; the worker moves the frames"
        assert (by_ourselves in worker.read_log()) is not Path("/dev/vhost-net").exists()
        worker.call("vm.shutdown")
        eventually(lambda: names() == {"lo"}, "the interfaces are removed")


def test_worker_refuses_a_tap_that_is_in_use(tmp_path: Path) -> None:
    with Taps("busy0"), start_worker(tmp_path) as worker:
        worker.call("vm.create", vm_config(build("count"), net=[{"tap": "busy0"}]))
        error = worker.error("vm.boot")
        assert (error.code, error.fields[0].pointer) == (ErrorCode.HOST_RESOURCE, "/net/0/tap")
