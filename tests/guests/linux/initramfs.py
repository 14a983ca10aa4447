# SPDX-License-Identifier: Apache-2.0
"""The Linux test guest: a kernel and an initramfs of a busybox and one script."""

import os
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import debian_kernel
from tests.guests.linux.modules import ordered
from tests.testbed.cache import cached, say
from tests.testbed.cpio import Entry, archive, directory, file, script

__all__ = ["BUSYBOX", "READY", "Guest", "linux_guest"]

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")
MODULES = ("button", "evdev")
READY = "VELUM-GUEST-READY"


@dataclass(frozen=True)
class Guest:
    """What a virtual machine needs to boot the test guest."""

    kernel: Path
    vmlinux: Path
    initramfs: Path


def linux_guest() -> Guest:
    """Return the test guest, built at the first use.

    The environment's KERNEL, VMLINUX and INITRAMFS replace its parts.
    """
    kernel, vmlinux, initramfs = (
        Path(given) if (given := os.environ.get(name)) else None
        for name in ("KERNEL", "VMLINUX", "INITRAMFS")
    )
    if kernel is None or vmlinux is None or initramfs is None:
        debian = debian_kernel()
        kernel = kernel or debian.bzimage
        vmlinux = vmlinux or debian.vmlinux
        initramfs = initramfs or built_initramfs(debian.modules)
    return Guest(kernel=kernel, vmlinux=vmlinux, initramfs=initramfs)


def built_initramfs(modules: Path) -> Path:
    """Return our initramfs for the kernel with these modules."""
    init, stamp = (HERE / "init").read_bytes(), (HERE / "stamp.c").read_bytes()
    recipe = (str(modules), *MODULES, init, stamp, BUSYBOX.read_bytes())
    return cached("guest", recipe, partial(build, modules=modules)) / "initramfs"


def build(target: Path, *, modules: Path) -> None:
    """Build the initramfs into `target`."""
    say("building the test guest's initramfs")
    stamp = target / "stamp"
    flags = ("-static", "-nostdlib", "-Os", "-fno-asynchronous-unwind-tables", "-s")
    subprocess.run(["gcc", *flags, "-o", stamp, HERE / "stamp.c"], check=True)
    loaded = ordered(modules, MODULES)
    entries: list[Entry] = [
        *(directory(name) for name in ("bin", "dev", "proc", "sys", "modules")),
        script("init", (HERE / "init").read_bytes()),
        script("stamp", stamp.read_bytes()),
        script("bin/busybox", BUSYBOX.read_bytes()),
        *(file(f"modules/{module.name}.ko", module.data) for module in loaded),
        file("modules/order", "".join(f"{module.name}\n" for module in loaded).encode()),
    ]
    (target / "initramfs").write_bytes(archive(entries))
