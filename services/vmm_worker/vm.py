# SPDX-License-Identifier: Apache-2.0
"""One VM from its boot to its end: the machine, and what its devices have open on the host."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import VmCounters
from kvm_shim import GedFlag, ShimError
from vmm_worker.devices.kinds import Installed, shown, wanted_devices
from vmm_worker.devices.terminal import Terminal, open_terminal
from vmm_worker.machine.build import Machine, build_machine
from vmm_worker.machine.host import host_errors
from vmm_worker.process import private_memory
from vmm_worker.progress import Progress

if TYPE_CHECKING:
    from vmm_worker.devices.balloon import Balloon

__all__ = ["Vm"]

_SERIAL: Final = "serial"
"""What the shim calls COM1 in its events."""
_NANOSECONDS: Final = 1_000_000_000
_NANOSECONDS_IN_US: Final = 1_000


class Vm:
    """A machine that can be replaced by a new one of the same configuration.

    The operations thread alone changes it; :meth:`counters`, :attr:`shown_config`,
    :attr:`ballooned` and :attr:`descriptors` may be asked for from anywhere.

    Args:
        config: What it is made of.
        kvm: The KVM device.
        opened: Called when what its devices need of the host is open, and no machine is built.
    """

    def __init__(self, config: VmConfig, *, kvm: str, opened: Callable[[], None]) -> None:
        self._config = config
        self._kvm = kvm
        self._opened = opened
        self._terminal: Terminal | None = None
        self._devices: tuple[Installed, ...] = ()
        self._requested_ns = 0
        self._built_ns = 0
        self._own_memory = 0
        self.machine: Machine | None = None
        """The machine of the present boot."""
        self.stopped = False
        """True once the guest stopped by itself: its vCPUs are parked for good."""

    def boot(self, requested_ns: int, progress: Progress, *, run: bool = True) -> None:
        """Build a machine and let it run, in place of the one there was.

        Args:
            requested_ns: When it was asked for (CLOCK_MONOTONIC); boot times count from it.
            progress: Where to tell the stages, and where it may be cancelled.
            run: False to leave it paused.

        Raises:
            VmFailure: When it cannot be built, or was cancelled; there is no machine then.
                :meth:`close` closes what was opened for it.
        """
        progress.enter("devices")
        self._discard()
        with host_errors():
            self._own_memory = private_memory()
            terminal = self._terminal or self._open()
            machine = build_machine(self._config, self._devices, kvm=self._kvm, progress=progress)
        try:
            progress.enter("start")
            _connect(machine, terminal)
            if run:
                machine.vm.resume()
        except BaseException:
            machine.close()
            raise
        self._requested_ns = requested_ns
        self._built_ns = time.monotonic_ns()
        self.stopped = False
        self.machine = machine

    @property
    def uptime(self) -> float:
        """Seconds since the last boot."""
        return (time.monotonic_ns() - self._built_ns) / _NANOSECONDS

    @property
    def shown_config(self) -> VmConfig:
        """The configuration with what was found out at boot: ids, the path of a pty."""
        config = shown(self._config, self._devices)
        terminal = self._terminal
        if terminal is None or terminal.path is None:
            return config
        serial = msgspec.structs.replace(config.serial, file=terminal.path)
        return msgspec.structs.replace(config, serial=serial)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is to be watched: :meth:`ready` is for the one that is readable."""
        terminal = self._terminal
        found = [each for _, backend in self._devices for each in backend.descriptors]
        if terminal is not None and terminal.listener is not None:
            found.append(terminal.listener)
        return tuple(found)

    def pause(self) -> None:
        """Park the vCPUs.

        Raises:
            VmFailure: ``host_resource`` when they or a device do not stand still in time; all
                run on.
        """
        if self.stopped:
            return
        try:
            self._running.vm.pause()
        except ShimError as ex:
            if ex.errno != errno.ETIMEDOUT:
                raise
            raise VmFailure(
                ErrorCode.HOST_RESOURCE,
                "the vCPUs and devices do not stand still in time: the host, or a disk or "
                "network of it, is too slow; the VM goes on running",
                causes=(ex.context,),
            ) from ex

    def resume(self) -> None:
        """Let the vCPUs run again."""
        if self.stopped:
            return
        try:
            self._running.vm.resume()
        except ShimError as ex:
            # The guest stopped before it was paused, and its event is yet to be read.
            if ex.errno != errno.ESHUTDOWN:
                raise

    def nmi(self) -> None:
        """Inject an NMI into every vCPU."""
        self._running.vm.nmi()

    def press_power_button(self) -> None:
        """Tell the guest that its power button was pressed."""
        self._running.ged.notify(GedFlag.POWER)

    @property
    def ballooned(self) -> int:
        """Bytes of RAM that the guest has given back at present."""
        machine, balloon = self.machine, self._balloon
        if machine is None or balloon is None:
            return 0
        try:
            return balloon.actual
        except ShimError:
            if self.machine is machine:
                raise
            return 0  # It was closed meanwhile by an operation.

    @property
    def resident(self) -> int:
        """Bytes of the guest's RAM that are in the host's, and what the process itself grew."""
        if self.machine is None:
            return 0
        return min(max(private_memory() - self._own_memory, 0), self._config.memory.size)

    def resize(self, config: VmConfig) -> None:
        """Take over a configuration whose balloon may have another size."""
        if self._balloon is not None and config.balloon is not None:
            self._balloon.resize(config.balloon.size)
        self._config = config

    def ready(self, descriptor: int) -> None:
        """Take what waits at one of the descriptors."""
        terminal = self._terminal
        if terminal is not None and terminal.listener == descriptor:
            if terminal.accept():
                _connect(self._running, terminal)
            return
        for _, backend in self._devices:
            if descriptor in backend.descriptors:
                backend.ready()

    def follow_window(self) -> None:
        """Pass on the size of the worker's terminal."""
        for _, backend in self._devices:
            backend.follow_window()

    def hang_up(self, source: str) -> None:
        """React to the end of a peer.

        Args:
            source: The id of a device, or "serial".
        """
        if source == _SERIAL:
            if self._terminal is not None and self._terminal.hang_up():
                _connect(self._running, self._terminal)
            return
        for wanted, backend in self._devices:
            if wanted.id == source:
                backend.hang_up()

    def counters(self) -> VmCounters:
        """Return the counters of each device, and when the guest reached what."""
        machine = self.machine
        if machine is None:
            return {}
        try:
            return self._read_counters(machine)
        except ShimError:
            if self.machine is machine:
                raise
            return {}  # It was closed meanwhile by an operation.

    def close(self) -> None:
        """Destroy the machine and give the host back what it used."""
        self._discard()
        terminal, self._terminal = self._terminal, None
        devices, self._devices = self._devices, ()
        with ExitStack() as closing:  # In reverse, and each although another fails.
            if terminal is not None:
                closing.callback(terminal.close)
            for _, backend in devices:
                closing.callback(backend.close)

    @property
    def _running(self) -> Machine:
        if self.machine is None:
            raise RuntimeError("the VM has no machine")
        return self.machine

    @property
    def _balloon(self) -> Balloon | None:
        found = (backend for wanted, backend in self._devices if wanted.kind.field == "balloon")
        return cast("Balloon | None", next(found, None))

    def _open(self) -> Terminal:
        terminal = self._terminal = open_terminal("/serial", self._config.serial)
        for wanted in wanted_devices(self._config):
            backend = wanted.kind.load()(wanted, self._config, self._devices)
            self._devices = (*self._devices, Installed(wanted, backend))
        self._opened()
        return terminal

    def _discard(self) -> None:
        machine, self.machine = self.machine, None
        if machine is not None:
            machine.close()

    def _read_counters(self, machine: Machine) -> VmCounters:
        counters: VmCounters = {}
        first_run_ns = 0
        for index in range(machine.vcpus):
            vcpu = machine.vm.counters(index)
            counters[f"__vcpu{index}"] = {
                **{f"exits_{kind}": count for kind, count in vcpu.exits.items()},
                "unclaimed_io": vcpu.unclaimed_io,
                "unclaimed_mmio": vcpu.unclaimed_mmio,
                "cpu_us": vcpu.cpu_ns // _NANOSECONDS_IN_US,
            }
            if index == 0:
                first_run_ns = vcpu.first_run_ns
        for name, device in machine.devices.items():
            if counted := device.counters():
                counters[name] = counted
        boot: dict[str, int] = {}
        if first_run_ns:
            boot["first_instruction_us"] = self._since_request_us(first_run_ns)
        for stamp in machine.debug_port.stamps():
            boot.setdefault(f"stamp_{stamp.code:#04x}_us", self._since_request_us(stamp.time_ns))
        counters["__boot"] = boot
        return counters

    def _since_request_us(self, time_ns: int) -> int:
        return max(0, time_ns - self._requested_ns) // _NANOSECONDS_IN_US


def _connect(machine: Machine, terminal: Terminal) -> None:
    """Connect the port, if there is one, to the terminal as it is now."""
    if machine.serial is not None:
        terminal.connect(machine.serial)
