# SPDX-License-Identifier: Apache-2.0
"""Nobody gets out of a sandbox: the probe tries, in the place of each service's program.

Every attempt is made three times: as the API, as the worker of one VM against that of another,
and as root in no sandbox at all, where it succeeds; so what fails, fails at the boundary.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.boundaries import Answer, Attempt, probe_freely, probe_unit
from tests.support.neighbours import Neighbour, neighbour
from tests.support.net import frame
from tests.support.network import Station
from tests.support.systemd import API, UnitVm, systemctl
from tests.support.users import connect_as

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900)]

API_SOCKET: Final = "velum-api.socket"

STANDARD_DEVICES: Final = {
    *("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"),
    *("/dev/ptmx", "/dev/pts/ptmx", "/dev/tty"),
}
"""They give nothing that a process has not got anyway."""
WORKER_DEVICES: Final = {"/dev/kvm", "/dev/net/tun", "/dev/vhost-net"}

DEVICE: Final = Path("/usr/local/lib/velum-test-device")
"""A device that nobody is given, for everybody to open and where everybody sees it."""
KMSG: Final = os.makedev(1, 11)

SECURITY: Final = Path(__file__).parents[3] / "docs/security.md"
OWN_TAPS: Final = Path("/usr/share/doc/velum/examples/own-taps.conf")
FRAMES: Final = 8
CAP_NET_ADMIN: Final = 1 << 12

CROSSINGS: Final[dict[str, Callable[[Neighbour], Attempt]]] = {
    "see_its_process": lambda vm: ("seen", vm.pid),
    "signal_it": lambda vm: ("signal", vm.pid),
    "debug_it": lambda vm: ("ptrace", vm.pid),
    "read_its_memory": lambda vm: ("read_memory", vm.pid, vm.ram_address),
    "copy_its_memory": lambda vm: ("copy_memory", vm.pid, vm.ram_address),
    "open_its_ram": lambda vm: ("open_descriptor", vm.pid, vm.ram_descriptor),
    "take_its_ram": lambda vm: ("take_descriptor", vm.pid, vm.ram_descriptor),
    "take_its_kvm": lambda vm: ("take_descriptor", vm.pid, vm.kvm_descriptor),
    "read_its_disk": lambda vm: ("open", str(vm.disk), "r"),
    "write_its_disk": lambda vm: ("open", str(vm.disk), "w"),
    "list_its_folder": lambda vm: ("list", str(vm.disk.parent)),
    "list_its_sockets": lambda vm: ("list", str(vm.sockets)),
    "read_its_configuration": lambda vm: ("open", str(vm.configuration), "r"),
    "read_the_copy_of_it": lambda vm: ("open", str(vm.copy), "r"),
    "write_beside_its_sockets": lambda _: ("make", "/run/velum"),
    "write_beside_the_images": lambda _: ("make", "/var/lib/velum/images"),
    "open_a_device_it_was_not_given": lambda _: ("open", str(DEVICE), "w"),
    "use_ipv4": lambda _: ("family", "AF_INET", "SOCK_STREAM"),
    "use_ipv6": lambda _: ("family", "AF_INET6", "SOCK_DGRAM"),
    "use_netlink": lambda _: ("family", "AF_NETLINK", "SOCK_RAW"),
    "use_packets": lambda _: ("family", "AF_PACKET", "SOCK_RAW"),
    "make_a_namespace": lambda _: ("namespace",),
    "mount": lambda _: ("mount", "/tmp"),
    "execute_what_it_writes": lambda _: ("write_and_execute",),
    "make_a_program_with_rights": lambda _: ("set_user_id",),
}
"""What neither the API nor another worker can do to a VM or to the host, by name."""

WORKER_CROSSINGS: Final[dict[str, Callable[[Neighbour], Attempt]]] = {
    "connect_to_its_worker": lambda vm: ("connect", str(vm.sockets / "vmm.ipc")),
    "connect_to_its_vsock": lambda vm: ("connect", str(vm.vsock)),
    "connect_to_the_api": lambda _: ("connect", "/run/velum/api.sock"),
}
"""What another worker cannot do either."""

API_CROSSINGS: Final[dict[str, Callable[[Neighbour], Attempt]]] = {
    "use_kvm": lambda _: ("open", "/dev/kvm", "rw"),
    "make_taps": lambda _: ("open", "/dev/net/tun", "rw"),
}
"""What the API cannot do, and workers must."""

ALL: Final = {**CROSSINGS, **WORKER_CROSSINGS, **API_CROSSINGS}
FACTS: Final = ("identity", "writable", "devices")

Answers = dict[str, Answer]


@pytest.fixture(scope="module")
def vm() -> Iterator[Neighbour]:
    """Give a running VM with every kind of device, and a device in everybody's reach."""
    os.mknod(DEVICE, stat.S_IFCHR, KMSG)
    try:
        DEVICE.chmod(0o666)
        systemctl("start", API_SOCKET)
        with neighbour("neighbour") as found:
            yield found
    finally:
        DEVICE.unlink()


@pytest.fixture(scope="module")
def prober() -> Iterator[UnitVm]:
    """Give a VM in whose worker's place the probe comes."""
    found = UnitVm("prober")
    yield found
    found.remove()


@pytest.fixture(scope="module")
def as_api(vm: Neighbour) -> Answers:
    """Try everything in the API's place, but for its socket, which would start it again."""
    systemctl("stop", API_SOCKET, API)
    names = ALL.keys() - {"connect_to_the_api"}
    try:
        return try_all(vm, names, lambda attempts: probe_unit(API, attempts))
    finally:
        systemctl("start", API_SOCKET)


@pytest.fixture(scope="module")
def as_worker(vm: Neighbour, prober: UnitVm) -> Answers:
    """Try everything in the place of another VM's worker."""
    return try_all(vm, ALL.keys(), lambda attempts: probe_unit(prober.unit, attempts))


@pytest.fixture(scope="module")
def as_root(vm: Neighbour) -> Answers:
    """Try everything in no sandbox; its own standing is not asked for."""
    return try_all(vm, ALL.keys(), probe_freely, facts=())


def try_all(
    vm: Neighbour,
    names: Iterable[str],
    probe: Callable[[list[Attempt]], list[Answer]],
    facts: tuple[str, ...] = FACTS,
) -> Answers:
    """Try everything at once, as a sandbox is slow to set up."""
    attempts = {name: ALL[name](vm) for name in sorted(names)}
    attempts |= {name: (name,) for name in facts}
    return dict(zip(attempts, probe(list(attempts.values())), strict=True))


@pytest.mark.parametrize("crossing", ALL)
def test_it_can_be_done_where_there_is_no_boundary(crossing: str, as_root: Answers) -> None:
    answer = as_root[crossing]
    assert answer.crossed, answer.got


@pytest.mark.parametrize("crossing", [*CROSSINGS, *API_CROSSINGS])
def test_the_api_cannot(crossing: str, as_api: Answers) -> None:
    answer = as_api[crossing]
    assert not answer.crossed, answer.got


@pytest.mark.parametrize("crossing", [*CROSSINGS, *WORKER_CROSSINGS])
def test_a_worker_cannot(crossing: str, as_worker: Answers) -> None:
    answer = as_worker[crossing]
    assert not answer.crossed, answer.got


def test_the_api_reaches_workers(as_api: Answers) -> None:
    answer = as_api["connect_to_its_worker"]
    assert answer.crossed, answer.got


@pytest.mark.parametrize("crossing", API_CROSSINGS)
def test_a_worker_has_what_it_needs(crossing: str, as_worker: Answers) -> None:
    answer = as_worker[crossing]
    assert answer.crossed, answer.got


def test_the_api_is_a_user_without_rights(as_api: Answers) -> None:
    identity = as_api["identity"].got
    user = pwd.getpwnam("velum-api")
    assert identity["uid"] == user.pw_uid
    assert identity["groups"] == [user.pw_gid]
    assert set(identity["capabilities"].values()) == {0}
    assert identity["no_new_privileges"]
    assert identity["filters"]


def test_each_worker_is_a_user_of_its_own_without_rights(vm: Neighbour, as_worker: Answers) -> None:
    identity = as_worker["identity"].got
    assert identity["uid"] not in {0, vm.uid, pwd.getpwnam("velum-api").pw_uid}
    assert set(identity["groups"]) == {identity["uid"], grp.getgrnam("kvm").gr_gid}
    assert set(identity["capabilities"].values()) == {0}
    assert identity["no_new_privileges"]
    assert identity["filters"]


def test_a_worker_that_makes_its_taps_has_one_right_and_no_other(prober: UnitVm) -> None:
    attempts = [("identity",), ("family", "AF_INET", "SOCK_DGRAM"), ("namespace",)]
    identity, internet, namespace = probe_unit(prober.unit, attempts, OWN_TAPS.read_text())
    rights = identity.got["capabilities"]
    assert {rights[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {CAP_NET_ADMIN}
    assert internet.crossed, internet.got
    assert not namespace.crossed


def test_a_worker_without_a_network_has_none(vm: Neighbour, prober: UnitVm) -> None:
    """As the document has it done."""
    text = SECURITY.read_text().partition("\n## A VM without a network\n")[2]
    addition = text.partition("```ini\n")[2].partition("```")[0]
    attempts = [("interface", vm.tap), ("open", "/dev/kvm", "rw"), ("open", "/dev/net/tun", "rw")]
    interface, kvm, tun = probe_unit(prober.unit, attempts, addition)
    assert not interface.crossed
    assert kvm.crossed, kvm.got
    assert not tun.crossed
    (interface,) = probe_freely([("interface", vm.tap)])
    assert interface.crossed, interface.got


def test_the_api_can_write_nothing_but_its_folder(as_api: Answers) -> None:
    assert set(as_api["writable"].got) <= {"/run/velum-api"}


def test_a_worker_can_write_nothing_but_its_folders(as_worker: Answers) -> None:
    assert set(as_worker["writable"].got) == {"/run/velum/prober", "/var/lib/private/velum/prober"}


def test_the_api_has_no_device(as_api: Answers) -> None:
    assert set(as_api["devices"].got) <= STANDARD_DEVICES


def test_a_worker_has_the_devices_of_virtual_machines_and_no_other(as_worker: Answers) -> None:
    there = {device for device in WORKER_DEVICES if Path(device).exists()}
    assert set(as_worker["devices"].got) - STANDARD_DEVICES == there


def test_only_the_api_and_root_reach_a_worker(vm: Neighbour) -> None:
    """Not an operator either, who has to go through the API."""
    operators = grp.getgrnam("velum").gr_gid
    nobody = pwd.getpwnam("nobody").pw_uid
    for groups in ((), (operators,), (grp.getgrnam("kvm").gr_gid,)):
        with pytest.raises(ConnectionError, match="Permission denied"):
            connect_as(vm.sockets / "vmm.ipc", nobody, groups=groups)


def test_only_operators_reach_the_api(vm: Neighbour) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    socket = vm.sockets.parent / "api.sock"
    with pytest.raises(ConnectionError, match="Permission denied"):
        connect_as(socket, nobody)
    connect_as(socket, nobody, groups=(grp.getgrnam("velum").gr_gid,)).close()


def test_frames_pass_a_sandbox_through_its_tap(vms: Callable[..., UnitVm]) -> None:
    """Which the worker could not have made; with vhost-net where the host has it."""
    vm = vms(
        "echo",
        guest="netecho",
        cmdline="frames=100000",  # and those that the host sends by itself
        host={"taps": "prepare"},
        parts={"net": [{"tap": "echo0"}]},
    )
    vm.start()
    with Station("echo0") as station:
        vm.wait_until(lambda: "net ready" in vm.said(), "the guest has its network")
        for size in range(FRAMES):
            sent = frame(bytes(46 + size))
            station.send(sent)
            assert station.receive().data == sent.data
