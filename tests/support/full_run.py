# SPDX-License-Identifier: Apache-2.0
"""Workers that do everything a worker can: each device at work, each operation, each end.

A scenario is a function that starts its worker by the function it is given, which takes what
``start_worker`` does.
"""

from __future__ import annotations

import os
import signal
import socket
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from ipc_protocol.context import Context
from ipc_protocol.messages import Operation, VmState
from tests.support.console import Console
from tests.support.guests import build
from tests.support.manager import Notifications
from tests.support.net import frame
from tests.support.network import Station
from tests.support.processes import Worker, eventually, make_file, vm_config
from tests.support.terminal import Terminal, on_terminal, set_window
from tests.support.vsock_guest import read_exactly

__all__ = ["SCENARIOS", "Start"]

Start: TypeAlias = Callable[..., Worker]

_MIB: Final = 1 << 20
_SLOW: Final = {"ops": {"size": 4, "refill_time": 50}}


def _boot(worker: Worker, guest: str, cmdline: str = "", **parts: Any) -> None:
    payload = {"cmdline": cmdline} if cmdline else {}
    worker.call("vm.create", vm_config(build(guest), payload=payload, **parts))
    worker.call("vm.boot")


def _counters(worker: Worker, device: str) -> Mapping[str, int]:
    counters: dict[str, Mapping[str, int]] = worker.call("vm.counters")
    return counters.get(device, {})


def _pause_and_move_on(worker: Worker) -> None:
    for operation in ("vm.pause", "vm.resume", "vm.reboot", "vm.pause", "vm.resume"):
        worker.call(operation)


def ptys(start: Start, folder: Path) -> None:
    """Have a serial port and a console with a pty each, and clients that come and go."""
    with start(folder) as worker:
        _boot(worker, "console", serial={"mode": "Pty"}, console={"mode": "Pty"})
        config = worker.info().config
        assert config.serial.file is not None
        assert config.console.file is not None
        with Console(os.open(config.serial.file, os.O_RDWR | os.O_NOCTTY)) as serial:
            serial.expect(b"console ready")
        for size in ((100, 30), (90, 20)):
            client = os.open(config.console.file, os.O_RDWR | os.O_NOCTTY)
            with Console(client) as console:
                set_window(client, *size)
                console.expect(b"%dx%d\n" % size)
                console.send(b"typed")
                console.expect(b"typed")
                # As a client leaves it that edits lines; the worker has it raw again.
                _edit_lines(client)
                console.send(b"again")
                console.expect(b"again")
        _pause_and_move_on(worker)


def _edit_lines(client: int) -> None:
    modes = termios.tcgetattr(client)
    modes[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(client, termios.TCSANOW, modes)


def sockets(start: Start, folder: Path) -> None:
    """Have them with a socket each."""
    path = folder / "serial.sock"
    with start(folder) as worker:
        console = {"mode": "Socket", "socket": str(folder / "console.sock")}
        _boot(worker, "echo", serial={"mode": "Socket", "socket": str(path)}, console=console)
        with Console.connect(path) as first:
            first.expect(b"echo ready")
            with Console.connect(path) as second:  # takes the place of the first
                second.send(b"x")
                second.expect(b"x")
        with Console.connect(path) as client:
            client.send(b"q")
            worker.wait_for(state=VmState.SHUTDOWN)


def terminal(start: Start, folder: Path) -> None:
    """Have the worker's own terminal, whose window changes."""
    with (
        Terminal() as own,
        on_terminal(folder, own, "console", "--console", "tty", start=start) as worker,
    ):
        own.console.expect(b"0x0\n")
        set_window(own.client, 132, 43)
        worker.process.send_signal(signal.SIGWINCH)
        own.console.expect(b"132x43\n")
        worker.stop()


def disk_by_ring(start: Start, folder: Path) -> None:
    """Have a disk on io_uring, with a limiter, and a file for the serial port."""
    _use_disk(start, folder)


def disk_by_pool(start: Start, folder: Path) -> None:
    """Have a disk on a pool of threads."""
    _use_disk(start, folder, disable_io_uring=True)


def _use_disk(start: Start, folder: Path, **parts: Any) -> None:
    console = folder / "console"
    disk = {"path": make_file(folder / "disk", _MIB), "image_type": "Raw", **parts}
    with start(folder) as worker:
        _boot(
            worker,
            "disk",
            "rounds=3 trim",
            disks=[{**disk, "rate_limiter_config": _SLOW}],
            serial={"mode": "File", "file": str(console)},
        )
        worker.wait_for(state=VmState.SHUTDOWN)
        assert "disk done" in console.read_text()
        worker.call("vm.boot")
        _pause_and_move_on(worker)
        worker.call("vm.delete")


def net(start: Start, folder: Path) -> None:
    """Have taps that the worker makes and sets up, one for several queues."""
    settings = {
        "ip": "192.168.249.1",
        "mask": "255.255.255.0",
        "host_mac": "52:54:00:aa:bb:cc",
        "mtu": 1400,
    }
    with start(folder) as worker:
        own = {"tap": "t0", **settings, "rate_limiter_config": _SLOW}
        cpus = {"boot_vcpus": 2, "max_vcpus": 2}
        _boot(worker, "netecho", "frames=12", cpus=cpus, net=[own, {"num_queues": 4}])
        eventually(lambda: _counters(worker, "_net0"), "the device is there")
        with Station("t0") as station:
            for size in range(100, 1300, 100):
                sent = frame(os.urandom(size))
                station.send(sent)
                assert station.receive().data == sent.data
        worker.wait_for(state=VmState.SHUTDOWN)
        worker.call("vm.boot")
        _pause_and_move_on(worker)


def rng(start: Start, folder: Path) -> None:
    """Have entropy, some at a time."""
    with start(folder) as worker:
        _boot(worker, "rng", "rounds=12", rng={"rate_limiter_config": _SLOW})
        eventually(lambda: _counters(worker, "__rng").get("throttled_us"), "it has to wait")
        _pause_and_move_on(worker)


def balloon(start: Start, folder: Path) -> None:
    """Have a balloon that takes RAM of both sorts: private, and on a memfd."""
    pages = 1024
    for shared in (False, True):
        with start(folder) as worker:
            _boot(
                worker,
                "balloon",
                f"pages={pages}",
                memory={"size": 32 * _MIB, "shared": shared},
                balloon={"size": 0, "statistics": True},
            )
            worker.call("vm.resize", {"desired_balloon": pages << 12})

            def given(worker: Worker = worker) -> bool:
                return _counters(worker, "__balloon").get("actual_bytes") == pages << 12

            eventually(given, "the guest gives what it is asked for")
            _pause_and_move_on(worker)


def pmem(start: Start, folder: Path) -> None:
    """Have persistent memory that is flushed."""
    file = make_file(folder / "pmem", 2 * _MIB)
    with start(folder) as worker:
        _boot(worker, "pmem", pmem=[{"file": file}])
        eventually(lambda: _counters(worker, "_pmem0").get("flushes"), "flushes")
        _pause_and_move_on(worker)


def watchdog(start: Start, folder: Path) -> None:
    """Have a watchdog whose guest comes by once, and then no more."""
    path = folder / "serial.sock"
    with start(folder) as worker:
        _boot(worker, "watchdog", watchdog=True, serial={"mode": "Socket", "socket": str(path)})
        with Console.connect(path) as console:
            console.send(b"x")
            console.expect(b"seen")
            worker.call("vm.pause")
            worker.call("vm.resume")
            console.send(b"r")
        _pause_and_move_on(worker)


def vsock(start: Start, folder: Path) -> None:
    """Have connections in both directions, and a host that does not read."""
    path = folder / "vsock.sock"
    with socket.socket(socket.AF_UNIX) as listener, start(folder) as worker:
        listener.bind(f"{path}_9")
        listener.listen()
        listener.settimeout(60)
        _boot(worker, "vsock", "connect=9", vsock={"cid": 3, "socket": str(path)})
        accepted, _ = listener.accept()
        with accepted, socket.socket(socket.AF_UNIX) as client:
            _echo(accepted)
            client.settimeout(60)
            client.connect(str(path))
            client.sendall(b"CONNECT 7\n")
            assert client.recv(64).startswith(b"OK ")
            _echo(client)
        worker.call("vm.pause")
        worker.call("vm.resume")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path))
            client.sendall(b"CONNECT 0\n")  # powers it off
            worker.wait_for(state=VmState.SHUTDOWN)


def _echo(peer: socket.socket) -> None:
    data = os.urandom(200_000)
    peer.settimeout(60)
    for at in range(0, len(data), 20_000):
        part = data[at : at + 20_000]
        peer.sendall(part)
        assert read_exactly(peer, len(part)) == part


def command_line(start: Start, folder: Path) -> None:
    """Have the VM from the command line, with vCPUs that may run on some CPUs only."""
    arguments = ("--cpus", "boot=2,max=2,affinity=[0@[0]]", "--memory", "size=32M,prefault=on")
    console = folder / "console"
    events = folder / "events"
    payload = ("--kernel", build("smp"), "--cmdline", "cpus=2", "--serial", f"file={console}")
    more = ("--event-monitor", f"path={events}", "--no-shutdown")
    with start(folder, *payload, *arguments, *more) as worker:
        worker.wait_for(state=VmState.SHUTDOWN)
    assert "2" in console.read_text()
    assert events.exists()


def life(start: Start, folder: Path) -> None:
    """Have all operations, in their right and wrong places, and a worker that is stopped."""
    with start(folder, stdin=None) as worker:
        config = vm_config(build("button"))
        worker.client.call(Operation.VM_CREATE, config, context=Context(dry_run=True))
        for _ in range(2):
            key = Context(idempotency_key="once")
            worker.client.call(Operation.VM_CREATE, config, context=key)
        worker.error("vm.create", config)
        worker.call("vm.boot")
        worker.process.send_signal(signal.SIGSTOP)
        worker.process.send_signal(signal.SIGCONT)
        for operation in ("vmm.ping", "vm.info", "vm.counters", "vmm.metrics", "vmm.jobs"):
            worker.call(operation)
        _pause_and_move_on(worker)
        worker.call("vm.power-button")
        worker.wait_for(state=VmState.SHUTDOWN)
        worker.call("vm.delete")
        _boot(worker, "nmi")
        worker.call("vm.nmi")
        worker.call("vm.pause")
        worker.call("vm.nmi")
        worker.call("vm.resume")
        worker.call("vm.delete")
        worker.call("vm.create", vm_config("/nonexistent"))
        worker.error("vm.boot")
        worker.call("vm.delete")
        for guest in ("badjump", "triplefault"):
            _boot(worker, guest)
            worker.wait_until(lambda info: info.last_stop is not None, f"{guest} is noticed")
            worker.call("vm.delete")
        _boot(worker, "panic", pvpanic=True)
        worker.wait_for(state=VmState.SHUTDOWN)


def service(start: Start, folder: Path) -> None:
    """Have a service manager, Landlock, and a shutdown that the guest is told of."""
    notifications = Notifications(folder / "notify")
    environment = notifications.environment(WATCHDOG_USEC=2_000_000)
    disk = make_file(folder / "disk", _MIB)
    try:
        with start(folder, environment=environment) as worker:
            _boot(worker, "button", disks=[{"path": disk}], landlock_enable=True)
            notifications.wait_for("STATUS", "Running")
            notifications.wait_for("WATCHDOG")
            worker.call("vmm.shutdown")
            worker.wait()
    finally:
        notifications.close()


SCENARIOS: Final[tuple[Callable[[Start, Path], None], ...]] = (
    *(ptys, sockets, terminal, disk_by_ring, disk_by_pool, net, rng, balloon, pmem),
    *(watchdog, vsock, command_line, life, service),
)
