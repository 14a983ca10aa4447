# SPDX-License-Identifier: Apache-2.0
"""A clean Debian with systemd, to install the package on."""

from typing import Final

from tests.testbed.system import System

__all__ = ["DEPLOYMENT"]

# They would take the machine's only processor, and apt's lock, at some time in a test.
_MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
    *("e2scrub_all.timer", "fstrim.timer", "systemd-tmpfiles-clean.timer"),
)

DEPLOYMENT: Final = System(
    name="deployment",
    # No Python, nothing that Velum asks for: installing the package has to bring it.
    packages=("curl", "dbus", "iproute2", "kmod", "procps", "systemd", "systemd-sysv", "udev"),
    init="/sbin/init",
    repository=("adduser", "libseccomp2", "liburing2", "python3"),
    words=" ".join(
        (
            "apparmor=1",  # as Debian has it; without, SELinux would take its place
            *("systemd.show_status=no", "systemd.hostname=testbed", "systemd.firstboot=no"),
            *(f"systemd.mask={unit}" for unit in _MASKED),
        )
    ),
)
"""Whatever is installed is gone with the machine."""
