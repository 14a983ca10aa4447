# SPDX-License-Identifier: Apache-2.0
"""The operations of the VMM: each returns a value or raises ``VmFailure``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.messages import (
    GuestStop,
    Operation,
    VmCounters,
    VmInfo,
    VmmPing,
    VmResize,
    VmState,
)
from ipc_protocol.version import BUILD_VERSION, PROTOCOL_VERSION, VERSION
from kvm_shim import Event, EventKind
from vmm_worker import transitions
from vmm_worker.devices.kinds import completed, load_kinds
from vmm_worker.edits import EDITS, edited
from vmm_worker.events import REBOOTS, RebootPace, describe
from vmm_worker.landlock import Landlock
from vmm_worker.log import guest_logger
from vmm_worker.machine.build import Machine
from vmm_worker.monitor import Monitor
from vmm_worker.progress import Progress
from vmm_worker.resize import check_running, resized
from vmm_worker.vm import Vm

__all__ = ["GuestReboot", "Standing", "Vmm"]

_log = logging.getLogger(__name__)
_guest_log = guest_logger(__name__)


class Standing(NamedTuple):
    """All that ``vm.info`` is made of. It is replaced as a whole, so any thread may look."""

    state: VmState | None = None
    """``None`` while there is no VM."""
    config: VmConfig | None = None
    vm: Vm | None = None
    """While Running or Paused."""
    boots: int = 0
    last_stop: GuestStop | None = None
    last_panic: GuestStop | None = None
    """Since the last boot."""
    expected: bool = False
    """Whether the worker starts and is about to create its VM."""

    @property
    def memory_actual_size(self) -> int:
        """Bytes of RAM that the guest has: what it was given less what its balloon holds."""
        if self.config is None:
            return 0
        return self.config.memory.size - (0 if self.vm is None else self.vm.ballooned)


class GuestReboot(NamedTuple):
    """A guest's wish to be booted again."""

    machine: Machine
    """The machine that made it."""
    asked_ns: int
    delay: float
    """Seconds it has to wait."""


class Vmm:
    """The one VM of this worker.

    :meth:`read` may be called from any thread at any time; all other methods by one
    thread at a time.

    Args:
        kvm: The KVM device.
        monitor: Where events are told.
        landlock: What of the host may still be opened.
        expected: Whether the worker begins with a VM.
    """

    def __init__(
        self, *, kvm: str, monitor: Monitor, landlock: Landlock, expected: bool = False
    ) -> None:
        self._kvm = kvm
        self._landlock = landlock
        self._monitor = monitor
        self._pace = RebootPace()
        self._reads: dict[Operation, Callable[[], object]] = {
            Operation.VMM_PING: self._ping,
            Operation.VM_INFO: self._info,
            Operation.VM_COUNTERS: self._counters,
        }
        self._changes: dict[Operation, Callable[[], None]] = {
            Operation.VMM_SHUTDOWN: self.close,
            Operation.VM_DELETE: self.close,
            Operation.VM_PAUSE: self._pause,
            Operation.VM_RESUME: self._resume,
            Operation.VM_SHUTDOWN: self._shutdown,
            Operation.VM_POWER_BUTTON: self.press_power_button,
            Operation.VM_NMI: self._nmi,
        }
        self.standing = Standing(expected=expected)

    def read(self, operation: Operation) -> object:
        """Perform an operation that changes nothing."""
        return self._reads[operation]()

    def change(
        self,
        operation: Operation,
        body: object,
        *,
        received_ns: int,
        progress: Progress,
    ) -> None:
        """Perform an operation that changes the VM.

        Args:
            operation: Which one.
            body: What its signature says.
            received_ns: When it was asked for (CLOCK_MONOTONIC).
            progress: Where a long one tells its stages, and where it may be cancelled.
        """
        standing = self.standing
        transitions.check(operation, standing.state, expected=standing.expected)
        if operation is Operation.VM_CREATE:
            self._create(body)
        elif operation is Operation.VM_BOOT:
            self._boot(received_ns, progress)
        elif operation is Operation.VM_REBOOT:
            self._reboot(received_ns, progress)
        elif operation is Operation.VM_RESIZE:
            self._resize(body)
        elif operation in EDITS:
            self._edit(operation, body)
        else:
            self._changes[operation]()
        _log.info("%s done; state: %s", operation, self.standing.state or "no VM")

    def try_out(self, operation: Operation, body: object) -> None:
        """Say whether an operation could be performed, and change nothing.

        Args:
            operation: Which one.
            body: What its signature says. A configuration is valid when it has come this
                far; what is left is whether this host has what it names.

        Raises:
            VmFailure: ``not_supported`` for an operation that cannot be tried; what the host
                lacks for the VM.
        """
        if not isinstance(body, VmConfig):
            raise VmFailure(
                ErrorCode.NOT_SUPPORTED,
                f"{operation}: only vm.create can be tried without doing it (dry_run)",
            )
        from vmm_worker.preflight import check_host  # noqa: PLC0415 - most workers never try

        check_host(body, kvm=self._kvm)

    def guest_event(self, machine: Machine, event: Event) -> GuestReboot | None:
        """Act on an event of the shim.

        Args:
            machine: The machine it came from.
            event: The event.

        Returns:
            The reboot to perform, where that is what follows.
        """
        vm = self.standing.vm
        if vm is None or vm.machine is not machine:
            return None  # An operation closed that machine before its event was read.
        if event.kind is EventKind.SERIAL_HANGUP:
            vm.hang_up(event.source)
            return None
        if event.kind is EventKind.PANICKED:
            panic = describe(event)
            self.standing = self.standing._replace(last_panic=panic)
            self._monitor.tell_panic(event)
            _guest_log.warning("%s: %s", panic.source, panic.detail)
            return None
        stop = describe(event)
        vm.stopped = True
        self.standing = self.standing._replace(last_stop=stop)
        _guest_log.warning("guest stopped: %s (%s) %s", stop.reason, stop.source, stop.detail)
        if event.kind not in REBOOTS:
            self._end(VmState.SHUTDOWN)
            return None
        return GuestReboot(machine, event.time_ns, self._pace.delay(vm.uptime))

    def reboot_guest(self, reboot: GuestReboot, progress: Progress) -> None:
        """Boot a guest again that asked for it; where that fails, the VM is Shutdown."""
        standing = self.standing
        vm = standing.vm
        if vm is None or vm.machine is not reboot.machine:
            return  # An operation was faster: the VM was shut down or booted again.
        try:
            with self._monitor.telling("rebooting", "rebooted"):
                self._start(vm, reboot.asked_ns, progress, standing.state)
        except Exception as ex:
            self._end(VmState.SHUTDOWN)
            self._explain_stop(f"it cannot be booted again: {ex}")
            raise

    def press_power_button(self) -> None:
        """Ask the guest to power off, if there is one."""
        if self.standing.vm is not None:
            self.standing.vm.press_power_button()

    def device_ready(self, vm: Vm, descriptor: int) -> None:
        """Take what waits at one of a VM's descriptors."""
        if vm is self.standing.vm:
            vm.ready(descriptor)

    def follow_window(self) -> None:
        """Pass on the size of the worker's terminal."""
        if self.standing.vm is not None:
            self.standing.vm.follow_window()

    def close(self) -> None:
        """Destroy and forget the VM, if there is one."""
        standing = self.standing
        if standing.vm is not None:
            standing.vm.close()
        self.standing = Standing()
        if standing.vm is not None:
            self._monitor.tell("vm", "shutdown")
        if standing.state is not None:
            self._monitor.tell("vm", "deleted")
        self._pace = RebootPace()

    @property
    def _vm(self) -> Vm:
        if self.standing.vm is None:
            raise RuntimeError("the VM is not built")
        return self.standing.vm

    def _ping(self) -> VmmPing:
        return VmmPing(
            build_version=BUILD_VERSION,
            version=VERSION,
            pid=os.getpid(),
            features=("io_uring", "kvm"),
            protocol=PROTOCOL_VERSION,
        )

    def _info(self) -> VmInfo:
        standing = self.standing
        transitions.check(Operation.VM_INFO, standing.state, expected=standing.expected)
        config, state = standing.config, standing.state
        if config is None or state is None:
            raise RuntimeError("a VM without a configuration")
        if standing.vm is not None:
            config = standing.vm.shown_config
        return VmInfo(
            config=config,
            state=state,
            memory_actual_size=standing.memory_actual_size,
            boots=standing.boots,
            last_stop=standing.last_stop,
            last_panic=standing.last_panic,
        )

    def _counters(self) -> VmCounters:
        standing = self.standing
        transitions.check(Operation.VM_COUNTERS, standing.state, expected=standing.expected)
        return {} if standing.vm is None else standing.vm.counters()

    def _create(self, body: object) -> None:
        if not isinstance(body, VmConfig):
            raise TypeError(f"vm.create got {type(body).__name__}")
        self._landlock.check(body)
        load_kinds(body)
        self.standing = Standing(VmState.CREATED, completed(body))

    def _boot(self, received_ns: int, progress: Progress) -> None:
        standing = self.standing
        if standing.config is None:
            raise RuntimeError("a VM without a configuration")
        self._landlock.check(standing.config)
        vm = Vm(
            standing.config,
            kvm=self._kvm,
            opened=partial(self._landlock.enter, standing.config),
        )
        try:
            self._start(vm, received_ns, progress, VmState.RUNNING)
        except BaseException:
            vm.close()
            raise
        self._pace = RebootPace()

    def _reboot(self, received_ns: int, progress: Progress) -> None:
        vm = self._vm
        try:
            with self._monitor.telling("rebooting", "rebooted"):
                self._start(vm, received_ns, progress, VmState.RUNNING)
        except BaseException:
            self._end(VmState.CREATED)
            raise

    def _start(self, vm: Vm, asked_ns: int, progress: Progress, state: VmState | None) -> None:
        """Boot a VM; who hears of it finds it in its new state."""
        with self._monitor.telling("booting", "booted", failed="boot-failed"):
            vm.boot(asked_ns, progress, run=state is VmState.RUNNING)
            boots = self.standing.boots + 1
            self.standing = self.standing._replace(state=state, vm=vm, boots=boots, last_panic=None)

    def _pause(self) -> None:
        with self._monitor.telling("pausing", "paused"):
            self._vm.pause()
            self.standing = self.standing._replace(state=VmState.PAUSED)

    def _resume(self) -> None:
        with self._monitor.telling("resuming", "resumed"):
            self._vm.resume()
            self.standing = self.standing._replace(state=VmState.RUNNING)

    def _nmi(self) -> None:
        self._vm.nmi()

    def _resize(self, body: object) -> None:
        standing = self.standing
        if not isinstance(body, VmResize) or standing.config is None:
            raise TypeError(f"vm.resize got {type(body).__name__}")
        if standing.vm is not None:
            check_running(standing.config, body)
        config = resized(standing.config, body)
        if standing.vm is None:
            self.standing = standing._replace(config=config)
            return
        with self._monitor.telling("resizing", "resized"):
            standing.vm.resize(config)
            self.standing = standing._replace(config=config)

    def _edit(self, operation: Operation, body: object) -> None:
        if self.standing.config is None:
            raise RuntimeError("a VM without a configuration")
        config = edited(self.standing.config, operation, body)
        self._landlock.check(config)
        load_kinds(config)
        self.standing = self.standing._replace(config=config)

    def _shutdown(self) -> None:
        self._end(VmState.CREATED)

    def _explain_stop(self, why: str) -> None:
        """Add to the guest's last stop what came of it."""
        stop = self.standing.last_stop
        if stop is not None:
            detail = f"{stop.detail}; {why}" if stop.detail else why
            stop = msgspec.structs.replace(stop, detail=detail)
        self.standing = self.standing._replace(last_stop=stop)

    def _end(self, state: VmState) -> None:
        """Destroy what is built and keep the configuration."""
        self._vm.close()
        self.standing = self.standing._replace(state=state, vm=None)
        self._monitor.tell("vm", "shutdown")
