# SPDX-License-Identifier: Apache-2.0
"""Linux guests in a worker that do what a test tells them.

::

    with (
        start_worker(tmp_path) as worker,
        AgentVm(worker.call, tmp_path, busybox(), disks=[{"path": str(image)}]) as vm,
    ):
        vm.boot()
        assert vm.agent.check("cat /sys/block/vda/size") == "2048"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.guests.debian import command_line
from tests.guests.debian import debian as debian_guest
from tests.guests.linux import linux_guest
from tests.support.agent import Agent

__all__ = ["AgentVm", "busybox", "debian"]


def busybox(cmdline: str = "panic=-1") -> dict[str, str]:
    """Return the payload of the small guest, with all of virtio's modules loaded."""
    guest = linux_guest()
    return {
        "kernel": str(guest.kernel),
        "initramfs": str(guest.initramfs),
        "cmdline": f"console=ttyS0 quiet reboot=t velum.do=agent {cmdline}",
    }


def debian(address: str = "") -> dict[str, str]:
    """Return the payload of the Debian guest, with a login on its virtio console."""
    guest = debian_guest()
    return {
        "kernel": str(guest.kernel),
        "initramfs": str(guest.initramfs),
        "cmdline": command_line("hvc0", address=address, agent="ttyS0"),
    }


class AgentVm:
    """A guest with the agent on its serial port: created at once, deleted with the context.

    Args:
        call: Performs an operation of the API, given its name and body.
        directory: Where the agent's socket is.
        payload: Whose agent is on ttyS0.
        vcpus: vCPUs.
        memory: MiB of RAM.
        parts: More of the ``VmConfig``.
    """

    agent: Agent

    def __init__(
        self,
        call: Callable[..., Any],
        directory: Path,
        payload: dict[str, str],
        *,
        vcpus: int = 1,
        memory: int = 256,
        **parts: Any,
    ) -> None:
        self._call = call
        self._socket = directory / "agent.sock"
        config = {
            "payload": payload,
            "cpus": {"boot_vcpus": vcpus, "max_vcpus": vcpus},
            "memory": {"size": memory << 20},
            "serial": {"mode": "Socket", "socket": str(self._socket)},
            "console": {"mode": "Null"},
            **parts,
        }
        call("vm.create", config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if hasattr(self, "agent"):
            self.agent.console.close()
        if kind is None:
            self._call("vm.delete")

    def start(self) -> None:
        """Boot, and have the agent called before it is there."""
        if hasattr(self, "agent"):
            self.agent.console.close()
        self._call("vm.boot")
        self.agent = Agent.connect(self._socket)

    def boot(self) -> None:
        """Boot, and wait for the agent."""
        self.start()
        self.agent.wait()
