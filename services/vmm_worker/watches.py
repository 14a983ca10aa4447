# SPDX-License-Identifier: Apache-2.0
"""The descriptors of the running VM in the control loop's poll set."""

from __future__ import annotations

import os

import zmq

from vmm_worker.machine.build import Machine
from vmm_worker.vm import Vm

__all__ = ["Watches"]


class Watches:
    """Keeps the poll set in step with a VM that another thread builds and destroys.

    What is polled are duplicates: the number of a descriptor that was closed meanwhile
    could already mean something else.
    """

    def __init__(self, poller: zmq.Poller) -> None:
        self._poller = poller
        self.machine: Machine | None = None
        """The machine whose events are watched."""
        self.events: int | None = None
        """Readable when it has one."""
        self._vm: Vm | None = None
        self.listener: int | None = None
        """Readable when a client waits at the serial port's socket."""

    def follow(self, vm: Vm | None) -> None:
        """Watch this VM as it is now, and nothing of another."""
        machine = None if vm is None else vm.machine
        if machine is not self.machine:
            self.drop_events()
            self.machine = machine
            if machine is not None:
                self.events = self._add(machine.vm.event_fd)
        if vm is not self._vm:
            self.drop_listener()
            self._vm = vm
        if vm is not None and self.listener is None and vm.serial_listener is not None:
            self.listener = self._add(vm.serial_listener)

    def drop_events(self) -> None:
        """Stop watching the machine's events."""
        self._remove(self.events)
        self.events = None

    def drop_listener(self) -> None:
        """Stop watching for clients, until the VM is followed again."""
        self._remove(self.listener)
        self.listener = None

    def close(self) -> None:
        """Stop watching."""
        self.drop_events()
        self.drop_listener()
        self.machine = self._vm = None

    def _add(self, fd: int) -> int | None:
        try:
            copy = os.dup(fd)
        except OSError:
            return None  # Closed this moment; the end of that operation brings us back.
        self._poller.register(copy, zmq.POLLIN)
        return copy

    def _remove(self, fd: int | None) -> None:
        if fd is not None:
            self._poller.unregister(fd)
            os.close(fd)
