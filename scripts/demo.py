# SPDX-License-Identifier: Apache-2.0
"""Shows a virtual machine's life as an operator sees it, with curl.

Exits with 0 when every step did what it should, and otherwise says which did not.
"""

import os
import sys
import time
from typing import Any

from scripts.demonstration import BOOT_LIMIT, Demonstration, expect, main, say
from tests.guests.linux import READY
from tests.testbed import host

COMMAND_LINE = "console=ttyS0 panic=-1 reboot=t velum.do=shell"
GUEST_LINES = 4


class Demo(Demonstration):
    """A kernel with a small initramfs, twice booted, once paused."""

    def operate(self) -> None:
        """Take the virtual machine through its life."""
        self.curl("vm.create", body=self.configuration())
        expect("the state after vm.create", self.curl("vm.info")["state"], "Created")
        self.boot("first boot", lines=None)
        self.curl("vm.pause")
        self.curl("vm.resume")
        self.milestones(self.curl("vm.counters"))
        self.curl("vm.shutdown")
        self.console.unlink()
        self.boot("second boot", lines=GUEST_LINES)
        self.curl("vm.delete")
        self.curl("vmm.shutdown")

    def configuration(self) -> dict[str, Any]:
        """Return the body of vm.create."""
        return {
            "payload": {
                "kernel": os.environ["KERNEL"],
                "initramfs": os.environ["INITRAMFS"],
                "cmdline": COMMAND_LINE,
            },
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": 512 << 20},
            "serial": {"mode": "File", "file": str(self.console)},
            "console": {"mode": "Off"},
        }

    def boot(self, name: str, *, lines: int | None) -> None:
        """Boot, and show the console's lines, or the last of them, up to the marker."""
        started = time.monotonic()
        self.curl("vm.boot")
        say(f"--- serial console{'' if lines is None else ', the last lines'}")
        seen = []
        for line in self.console_lines(started + BOOT_LIMIT):
            seen.append(line)
            if lines is None:
                say(f"| {line}")
            if line.startswith(READY):
                break
        if lines is not None:
            for line in seen[-lines:]:
                say(f"| {line}")
        say("---")
        self.note(f"{name}: request to userspace", started)

    def milestones(self, counters: dict[str, dict[str, int]]) -> None:
        """Take over the times that the worker measured itself."""
        boot = counters.get("__boot", {})
        for key, text in (
            ("first_instruction_us", "first boot: request to the first guest instruction"),
            ("stamp_0x41_us", "first boot: request to the first process of the guest"),
        ):
            if key in boot:
                self.times.append((text, boot[key] / 1e6))


if __name__ == "__main__":
    in_testbed = [sys.executable, "-m", "scripts.demo"]
    sys.exit(main(Demo, in_testbed, able=host.fast_kvm(), environment={}))
