# SPDX-License-Identifier: Apache-2.0
"""A Linux guest in a worker, with what its serial console says.

::

    with start_worker(tmp_path) as worker, LinuxVm(worker.call, tmp_path, do="count") as vm:
        vm.boot()
        vm.expect(r"VELUM-COUNT (\\d+)")
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.guests.linux import READY, linux_guest

__all__ = ["BOOT_TIMEOUT", "READY_LINE", "LinuxVm"]

BOOT_TIMEOUT = 240.0
"""Seconds; on an emulated processor that others use as well, a boot may take a minute."""

READY_LINE = rf"{READY} action=\S+ uptime=(\S+) time=(\S+)"


class LinuxVm:
    """The test guest: created at once, deleted with the context.

    Args:
        call: Performs an operation of the API, given its name and body.
        directory: Where the console's file is.
        do: The action of the guest's init.
        kernel: In place of the bzImage.
        vcpus: vCPUs.
        memory: MiB of RAM.
        cmdline: More for the kernel's command line.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        directory: Path,
        *,
        do: str,
        kernel: Path | None = None,
        vcpus: int = 1,
        memory: int = 512,
        cmdline: str = "quiet panic=-1 reboot=t",
    ) -> None:
        guest = linux_guest()
        self._call = call
        self.console = directory / "console"
        self._position = 0
        config = {
            "payload": {
                "kernel": str(kernel or guest.kernel),
                "initramfs": str(guest.initramfs),
                "cmdline": f"console=ttyS0 {cmdline} velum.do={do}",
            },
            "cpus": {"boot_vcpus": vcpus, "max_vcpus": vcpus},
            "memory": {"size": memory << 20},
            "serial": {"mode": "File", "file": str(self.console)},
        }
        call("vm.create", config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._call("vm.delete")

    def boot(self) -> re.Match[str]:
        """Boot, with a console that starts anew, and wait for userspace."""
        self.console.unlink(missing_ok=True)
        self._position = 0
        self._call("vm.boot")
        return self.expect_ready()

    def expect_ready(self) -> re.Match[str]:
        """Wait until the guest has reached userspace, this time or again."""
        return self.expect(READY_LINE, BOOT_TIMEOUT)

    def output(self) -> str:
        """Return everything the console had to say in this boot."""
        return self.console.read_bytes().decode(errors="replace").replace("\r", "")

    def skip_output(self) -> None:
        """Have the next expectation begin behind what there is by now."""
        self._position = len(self.output())

    def expect(self, pattern: str, timeout: float = 240.0) -> re.Match[str]:
        """Wait until the pattern matches a whole line behind the last match.

        Raises:
            AssertionError: It did not; with the end of the console.
        """
        line = re.compile(rf"^{pattern}$(?=\n)", re.MULTILINE)
        deadline = time.monotonic() + timeout
        while True:
            output = self.output()
            match = line.search(output, self._position)
            if match is not None:
                self._position = match.end()
                return match
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r}: not in {timeout:g} s; ...{output[-2000:]}")
            time.sleep(0.02)
