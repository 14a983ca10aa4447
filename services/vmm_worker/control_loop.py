# SPDX-License-Identifier: Apache-2.0
"""The worker's main thread: requests, signals and guest events, as they come.

It does nothing that can take long: reads are answered at once, and whatever changes the
VM is one of the :class:`~vmm_worker.jobs.Jobs`, done on a thread of its own.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Final

import zmq

from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.jobs import JobInfo
from ipc_protocol.messages import Operation, VmState, WorkerMetrics
from ipc_protocol.server import Incoming, Server, outcome
from kvm_shim import Event, ShimError
from vmm_worker.event_file import EventTarget
from vmm_worker.event_outlets import EventOutlets
from vmm_worker.events import NOTES, note
from vmm_worker.jobs import Jobs
from vmm_worker.landlock import Landlock
from vmm_worker.log import guest_logger, log_for
from vmm_worker.machine.build import Machine
from vmm_worker.metrics import OperationTimes, worker_metrics
from vmm_worker.monitor import Monitor
from vmm_worker.operations import Job, Operations
from vmm_worker.progress import Progress
from vmm_worker.signals import Signals
from vmm_worker.supervision import Supervision
from vmm_worker.vm import Vm
from vmm_worker.vmm import GuestReboot, Vmm
from vmm_worker.watches import Watches

__all__ = ["ControlLoop"]

_log = logging.getLogger(__name__)
_guest_log = guest_logger(__name__)

_BATCH: Final = 32
"""Requests or events taken before the others get their turn again."""
_LAST_WORDS: Final = 5.0
"""Seconds for the operations thread to end when the process does."""


class ControlLoop:
    """Serves one worker until it is told to stop.

    Args:
        server: Where requests come from.
        vmm: Who performs them.
        signals: What tells the process to stop.
        monitor: Where events are told.
        supervision: What the init system hears of it.
        event_target: Where they are written, if anywhere.
        shutdown_timeout: Seconds a guest has to power off by itself then.
        landlock: What asks this thread to give up what it may open.
        exit_with_guest: Whether the process ends when its guest stops by itself.
    """

    def __init__(
        self,
        server: Server,
        vmm: Vmm,
        signals: Signals,
        monitor: Monitor,
        supervision: Supervision,
        *,
        landlock: Landlock,
        event_target: EventTarget | None,
        shutdown_timeout: float,
        exit_with_guest: bool,
    ) -> None:
        self._server = server
        self._vmm = vmm
        self._signals = signals
        self._supervision = supervision
        self._shutdown_timeout = shutdown_timeout
        self._landlock = landlock
        self._exit_with_guest = exit_with_guest
        self._operations = Operations()
        self._times = OperationTimes()
        self._jobs = Jobs(self._operations, self._answer)
        self._at_once: dict[Operation, Callable[[Incoming], object]] = {
            Operation.VMM_METRICS: self._measure,
            Operation.VMM_JOBS: self._list_jobs,
            Operation.VMM_CANCEL: self._cancel_job,
        }
        self._poller = zmq.Poller()
        self._monitor = monitor
        for socket in (server.socket, server.connections.socket):
            self._poller.register(socket, zmq.POLLIN)
        for descriptor in (signals.fd, self._operations.done_fd, landlock.fd):
            self._poller.register(descriptor, zmq.POLLIN)
        self._events = EventOutlets(monitor, server, event_target, self._poller)
        self._watches = Watches(self._poller)
        self._reboot: tuple[float, GuestReboot] | None = None
        self._destroy_at: float | None = None
        self._abandon_at: float | None = None
        self._ended = False
        self._stuck = False
        self._status = 0
        self.stopping = False
        """True once nothing new is begun."""

    def run(self) -> int:
        """Serve until the end and return the exit status of the process."""
        while not self._ended:
            self._follow()
            self._supervision.tell(self._vmm.standing, stopping=self.stopping)
            ready = dict(self._poller.poll(self._wait_ms()))
            if self._signals.fd in ready:
                self._take_signals()
            if self._operations.done_fd in ready:
                self._operations.collect()
            if self._landlock.fd in ready:
                self._landlock.follow()
            if self._watches.events in ready:
                self._take_events()
            self._take_descriptors(ready)
            if self._server.connections.socket in ready:
                self._server.connections.follow()
            if self._server.socket in ready:
                self._take_requests()
            self._take_timers()
            self._events.serve(ready)
        # The last turn may have been the one that decided it.
        self._supervision.tell(self._vmm.standing, stopping=True)
        return self._status

    def close(self) -> bool:
        """Stop the operations thread and destroy the VM, or say that it is stuck."""
        self._watches.close()
        ended = self._operations.close(0.0 if self._stuck else _LAST_WORDS)
        if ended:
            self._vmm.close()
        self._monitor.tell("vmm", "shutdown")
        self._events.close()
        return ended

    # ---- what comes --------------------------------------------------------

    def _take_requests(self) -> None:
        for _ in range(_BATCH):
            incoming = self._server.receive()
            if incoming is None:
                return
            with log_for(incoming.context.request_id):
                if incoming.operation is Operation.VMM_EVENTS:
                    self._events.take(incoming)
                elif incoming.signature.is_job:
                    self._begin(incoming)
                else:
                    self._answer(incoming, outcome(partial(self._do_at_once, incoming)))

    def _take_signals(self) -> None:
        for number in self._signals.read():
            if number is signal.SIGWINCH:
                self._operations.submit(Job(lambda _: self._vmm.follow_window()))
                continue
            _log.info("%s: shutting down", number.name)
            if self.stopping:
                self._destroy()
            else:
                self._stop()

    def _take_events(self) -> None:
        machine = self._watches.machine
        if machine is None:
            return
        try:
            for _ in range(_BATCH):
                event = machine.vm.next_event()
                if event is None:
                    return
                if event.kind in NOTES:
                    note(event)
                    self._monitor.tell_device(event)
                else:
                    self._post_event(machine, event)
        except ShimError:
            self._watches.drop_events()  # An operation closed it this moment.

    def _take_descriptors(self, ready: Container[int]) -> None:
        for vm, descriptor in self._watches.take(ready):
            run = partial(self._take_device, vm, descriptor)
            self._operations.submit(Job(run, partial(self._rested, vm, descriptor)))

    def _take_device(self, vm: Vm, descriptor: int, _: Progress) -> None:
        self._vmm.device_ready(vm, descriptor)

    def _rested(self, vm: Vm, descriptor: int, _: object) -> None:
        self._watches.wake(vm, descriptor)

    def _take_timers(self) -> None:
        now = time.monotonic()
        if self._reboot is not None and now >= self._reboot[0]:
            reboot, self._reboot = self._reboot[1], None
            self._operations.submit(
                Job(partial(self._vmm.reboot_guest, reboot), lambda _: self._guest_settled())
            )
        if self._destroy_at is not None and now >= self._destroy_at:
            _log.warning("the guest did not power off in %g s", self._shutdown_timeout)
            self._destroy()
        if self._abandon_at is not None and now >= self._abandon_at:
            _log.error("an operation is stuck; leaving without its end")
            self._stuck = True
            self._ended = True

    # ---- requests ----------------------------------------------------------

    def _begin(self, incoming: Incoming) -> None:
        operation = incoming.operation

        def run(progress: Progress) -> None:
            if self.stopping:
                raise VmFailure(
                    ErrorCode.VMM_UNAVAILABLE, f"{operation}: the worker is shutting down"
                )
            if incoming.context.dry_run:
                self._vmm.try_out(operation, incoming.body)
                return
            self._vmm.change(
                operation, incoming.body, received_ns=incoming.received_ns, progress=progress
            )
            if operation is Operation.VMM_SHUTDOWN:
                self.stopping = True

        def done(result: object) -> None:
            if incoming.context.respond_async:
                self._count(incoming, result)
            if operation is Operation.VMM_SHUTDOWN and not isinstance(result, VmError):
                self._ended = True

        self._jobs.begin(incoming, run, done)

    def _do_at_once(self, incoming: Incoming) -> object:
        operation, context = incoming.operation, incoming.context
        if context.respond_async or context.dry_run:
            raise VmFailure(
                ErrorCode.INVALID_REQUEST,
                f"{operation} is done at once: it is no job, and cannot be tried first",
            )
        own = self._at_once.get(operation)
        return self._vmm.read(operation) if own is None else own(incoming)

    def _measure(self, _: Incoming) -> WorkerMetrics:
        return worker_metrics(
            self._vmm.standing,
            ipc=self._server.counters,
            connections=self._server.connections,
            times=self._times,
            jobs=self._jobs.by_state(),
        )

    def _list_jobs(self, _: Incoming) -> tuple[JobInfo, ...]:
        return self._jobs.infos()

    def _cancel_job(self, incoming: Incoming) -> None:
        self._jobs.cancel(incoming.body.id)

    def _answer(self, incoming: Incoming, result: object) -> None:
        if not isinstance(result, JobInfo):  # That it has begun says nothing of its end.
            self._count(incoming, result)
        if isinstance(result, VmError):
            self._server.fail(incoming, result)
        else:
            self._server.reply(incoming, result)

    def _count(self, incoming: Incoming, result: object) -> None:
        error = result.code if isinstance(result, VmError) else None
        seconds = (time.monotonic_ns() - incoming.received_ns) / 1e9
        self._times.note(incoming.operation, seconds, error)

    # ---- the guest ---------------------------------------------------------

    def _post_event(self, machine: Machine, event: Event) -> None:
        self._operations.submit(
            Job(lambda _: self._vmm.guest_event(machine, event), self._guest_stopped)
        )

    def _guest_stopped(self, result: object) -> None:
        if isinstance(result, GuestReboot) and not self.stopping:
            if result.delay:
                _guest_log.warning("the guest resets again and again: waiting %g s", result.delay)
            self._reboot = (time.monotonic() + result.delay, result)
        elif isinstance(result, GuestReboot):
            self._destroy()
        else:
            self._guest_settled()

    def _guest_settled(self) -> None:
        standing = self._vmm.standing
        if standing.state is not VmState.SHUTDOWN:
            return
        if self.stopping:
            self._destroy()
        elif self._exit_with_guest:
            stop = standing.last_stop
            self._status = 0 if stop is not None and stop.reason == "power_off" else 1
            self.stopping = True
            self._destroy()

    # ---- the end -----------------------------------------------------------

    def _stop(self) -> None:
        """Begin nothing more, and ask a running guest to power off."""
        self.stopping = True
        # One that waits for its next boot cannot hear the button either.
        listens = self._vmm.standing.state is VmState.RUNNING and self._reboot is None
        self._reboot = None
        if not listens or not self._shutdown_timeout:
            self._destroy()
            return
        self._destroy_at = time.monotonic() + self._shutdown_timeout
        self._operations.submit(Job(lambda _: self._vmm.press_power_button()))

    def _destroy(self) -> None:
        """End the guest and then the loop; whatever is stuck is left after a while."""
        self._destroy_at = None
        if self._abandon_at is None:
            self._abandon_at = time.monotonic() + _LAST_WORDS
            self._operations.cancel(
                VmFailure(ErrorCode.VMM_UNAVAILABLE, "the worker is shutting down")
            )
            self._operations.submit(Job(lambda _: self._vmm.close(), lambda _: self._end()))

    def _end(self) -> None:
        self._ended = True

    # ---- the poll set ------------------------------------------------------

    def _follow(self) -> None:
        self._watches.follow(self._vmm.standing.vm)

    def _wait_ms(self) -> int | None:
        due = [
            moment
            for moment in (
                self._destroy_at,
                self._abandon_at,
                self._events.due,
                self._supervision.due,
                None if self._reboot is None else self._reboot[0],
            )
            if moment is not None
        ]
        if not due:
            return None
        # Rounded up: a wait of 0 ms would spin through the last millisecond.
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)
