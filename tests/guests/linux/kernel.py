# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernel, taken out of its package."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.guests.linux.bzimage import vmlinux
from tests.testbed.cache import cached, say

__all__ = ["Kernel", "debian_kernel", "suite"]

PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """The files of one kernel."""

    bzimage: Path
    vmlinux: Path
    modules: Path


def suite() -> str:
    """Return the name of this machine's Debian release."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")


def debian_kernel() -> Kernel:
    """Return Debian's current cloud kernel, downloaded at the first use."""
    place = cached("kernel", (suite(), PACKAGE), fetch)
    return Kernel(place / "bzImage", place / "vmlinux", place / "modules")


def fetch(target: Path) -> None:
    """Download the kernel's package into `target` and take it apart."""
    try:
        package = versioned_package()
        say(f"downloading {package}")
        download(package, target)
    except (LookupError, subprocess.CalledProcessError):
        # No package lists, or lists older than what the mirror still holds.
        update_package_lists()
        package = versioned_package()
        say(f"downloading {package}")
        download(package, target)
    say("taking the kernel apart")
    (archive,) = target.glob("*.deb")
    unpacked = target / "unpacked"
    subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
    (image,) = (unpacked / "boot").glob("vmlinuz-*")
    (modules,) = (unpacked / "lib/modules").iterdir()
    image.rename(target / "bzImage")
    modules.rename(target / "modules")
    (target / "vmlinux").write_bytes(vmlinux((target / "bzImage").read_bytes()))
    (target / "package").write_text(archive.name + "\n")
    shutil.rmtree(unpacked)
    archive.unlink()


def versioned_package() -> str:
    """Return the package that the kernel's metapackage depends on today."""
    listed = subprocess.run(
        ["apt-cache", "depends", PACKAGE], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    if not found:
        raise LookupError(f"apt knows no {PACKAGE}")
    return found[1]


def download(package: str, target: Path) -> None:
    """Download one package as whoever runs this, into `target`."""
    unsandboxed = f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}"
    subprocess.run(
        ["apt-get", "-qq", "-o", unsandboxed, "download", package], check=True, cwd=target
    )


def update_package_lists() -> None:
    """Fetch apt's package lists anew."""
    say("updating the package lists")
    privileged = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*privileged, "apt-get", "-qq", "update"], check=True)
