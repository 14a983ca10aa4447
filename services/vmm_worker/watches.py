# SPDX-License-Identifier: Apache-2.0
"""The descriptors of the running VM in the control loop's poll set."""

from __future__ import annotations

import os
from collections.abc import Container

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
        self._descriptors: dict[int, int] = {}
        """Descriptor of one of the VM's devices -> the duplicate that is polled."""
        self._resting: set[int] = set()

    def follow(self, vm: Vm | None) -> None:
        """Watch this VM as it is now, and nothing of another."""
        machine = None if vm is None else vm.machine
        if machine is not self.machine:
            self.drop_events()
            self.machine = machine
            if machine is not None:
                self.events = self._add(machine.vm.event_fd)
        if vm is not self._vm:
            self._drop_descriptors()
            self._vm = vm
        if vm is None:
            return
        for descriptor in vm.descriptors:
            if descriptor not in self._descriptors and descriptor not in self._resting:
                copy = self._add(descriptor)
                if copy is not None:
                    self._descriptors[descriptor] = copy

    def take(self, ready: Container[int]) -> list[tuple[Vm, int]]:
        """Return which descriptors are readable; they rest until :meth:`wake`."""
        taken = [each for each, copy in self._descriptors.items() if copy in ready]
        for descriptor in taken:
            self._remove(self._descriptors.pop(descriptor))
            self._resting.add(descriptor)
        return [] if self._vm is None else [(self._vm, descriptor) for descriptor in taken]

    def wake(self, vm: Vm, descriptor: int) -> None:
        """Watch a descriptor again, if it is still this VM's."""
        if vm is self._vm:
            self._resting.discard(descriptor)

    def drop_events(self) -> None:
        """Stop watching the machine's events."""
        self._remove(self.events)
        self.events = None

    def close(self) -> None:
        """Stop watching."""
        self.drop_events()
        self._drop_descriptors()
        self.machine = self._vm = None

    def _drop_descriptors(self) -> None:
        for copy in self._descriptors.values():
            self._remove(copy)
        self._descriptors.clear()
        self._resting.clear()

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
