# SPDX-License-Identifier: Apache-2.0
"""Shows a whole Debian as an operator sees it: disk, network, console, ping, SSH, power-off.

Exits with 0 when every step did what it should, and otherwise says which did not.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.demonstration import BOOT_LIMIT, Demonstration, main, say
from tests.guests.debian import command_line, debian, debian_files
from tests.testbed import host

HOST, GUEST, MASK = "192.168.210.1", "192.168.210.2", "255.255.255.0"
PROMPT = "velum login: "
OFF_LIMIT = 120.0


class DebianDemo(Demonstration):
    """A Debian with systemd on a disk, from its first boot to its power-off."""

    def operate(self) -> None:
        """Take the virtual machine through its life."""
        # Not in the folder of the sockets: that may be in memory.
        with tempfile.TemporaryDirectory(prefix="velum-demo-", dir="/var/tmp") as directory:
            disk = Path(directory) / "disk.img"
            copying = time.monotonic()
            debian().copy_disk(disk)
            self.note("copy of the disk image", copying)
            self.curl("vm.create", body=self.configuration(disk))
            self.boot()
            self.use()
            self.power_off()
            self.shell("e2fsck of the disk", "e2fsck", "-fn", str(disk))
        self.curl("vm.delete")
        self.curl("vmm.shutdown")

    def configuration(self, disk: Path) -> dict[str, Any]:
        """Return the body of vm.create."""
        guest = debian()
        return {
            "payload": {
                "kernel": str(guest.kernel),
                "initramfs": str(guest.initramfs),
                "cmdline": command_line("hvc0", address=f"{GUEST}/24"),
            },
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": 512 << 20},
            "disks": [{"path": str(disk)}],
            "net": [{"tap": "velum-demo", "ip": HOST, "mask": MASK}],
            "rng": {"src": "/dev/urandom"},
            "console": {"mode": "File", "file": str(self.console)},
        }

    def boot(self) -> None:
        """Boot to the login prompt."""
        started = time.monotonic()
        self.curl("vm.boot")
        say("--- console")
        for line in self.console_lines(started + BOOT_LIMIT, prompt=PROMPT):
            say(f"| {line}")
        say("---")
        self.note("boot: request to the login prompt", started)

    def use(self) -> None:
        """Reach the guest by its network, and the host from it."""
        self.shell("ping of the guest", "ping", "-c", "2", "-W", "10", GUEST)
        for name, command in (
            ("ping from the guest, by ssh", f"ping -c 2 -W 10 {HOST}"),
            ("a look around, by ssh", "uname -srm; systemctl is-system-running --wait; lsblk"),
            ("random numbers, by ssh", "cat /sys/class/misc/hw_random/rng_current"),
        ):
            self.shell(name, *debian().ssh(GUEST, command))

    def power_off(self) -> None:
        """Have the guest end itself."""
        started = time.monotonic()
        self.shell("power-off, by ssh", *debian().ssh(GUEST, "systemctl poweroff --no-block"))
        deadline = started + OFF_LIMIT
        while self.curl("vm.info", shown=False)["state"] != "Shutdown":
            self.pause_until(deadline, "the guest does not power off")
        self.note("power-off", started)


if __name__ == "__main__":
    in_testbed = [sys.executable, "-m", "scripts.demo_debian"]
    able = host.fast_kvm() and os.geteuid() == 0  # a tap interface is root's to make
    files = {} if host.inside_testbed() else debian_files()
    sys.exit(main(DebianDemo, in_testbed, able=able, environment=files))
