# SPDX-License-Identifier: Apache-2.0
"""The Linux test guest: a kernel and an initramfs of a busybox, two scripts, two programs."""

import os
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import debian_kernel
from tests.guests.linux.modules import packed
from tests.testbed.cache import cached, say
from tests.testbed.cpio import Entry, archive, directory, script

__all__ = ["BUSYBOX", "READY", "Guest", "linux_guest"]

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")
AGENT = HERE.parent / "agent/agent"
MODULES = (
    *("button", "evdev", "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"),
    *("virtio_balloon", "virtio_pmem", "nd_pmem", "vmw_vsock_virtio_transport", "pvpanic-pci"),
)
# With their compiler flags. The stamp's start is part of what is measured.
PROGRAMS = {
    "stamp": ("-nostdlib", "-fno-asynchronous-unwind-tables"),
    "vsock_echo": (),
}
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
    sources = (HERE / "init", AGENT, BUSYBOX, *(HERE / f"{name}.c" for name in PROGRAMS))
    recipe = (str(modules), *MODULES, *(path.read_bytes() for path in sources))
    return cached("guest", recipe, partial(build, modules=modules)) / "initramfs"


def build(target: Path, *, modules: Path) -> None:
    """Build the initramfs into `target`."""
    say("building the test guest's initramfs")
    entries: list[Entry] = [
        *(directory(name) for name in ("bin", "dev", "proc", "run", "sys")),
        script("init", (HERE / "init").read_bytes()),
        script("agent", AGENT.read_bytes()),
        script("bin/busybox", BUSYBOX.read_bytes()),
        *(script(name, compiled(name, target)) for name in PROGRAMS),
        *packed(modules, dict.fromkeys(MODULES, "")),
    ]
    (target / "initramfs").write_bytes(archive(entries))


def compiled(name: str, target: Path) -> bytes:
    """Return a program of ours, compiled to need nothing else."""
    flags = ("-static", "-Os", "-Wall", "-Wextra", "-Werror", "-s", *PROGRAMS[name])
    subprocess.run(["gcc", *flags, "-o", target / name, HERE / f"{name}.c"], check=True)
    return (target / name).read_bytes()
