# SPDX-License-Identifier: Apache-2.0
"""What the testbed's machine boots: kernel, initramfs and root disk."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import Kernel, debian_kernel, suite
from tests.guests.linux.modules import packed
from tests.testbed.cache import cached, say
from tests.testbed.cpio import archive, directory, script
from tests.testbed.rootfs import UNNEEDED, install
from tests.testbed.system import System

__all__ = ["PLAIN", "Image", "image"]

HERE = Path(__file__).parent
REPOSITORY = HERE / "guest/repository"
BUSYBOX = Path("/bin/busybox")

PACKAGES = (
    "busybox-static",  # the agent's shell
    "curl",
    "e2fsprogs",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "libasan8",  # the sanitizers' runtimes
    "libseccomp2",
    "libubsan1",
    "liburing2",
    "openssh-client",
    "procps",
    "python3",  # the same as the host's: the project's virtual environment works here
    "qemu-system-x86",  # the peer of the benchmarks
    "strace",
)
# With their arguments. Nested paging on, whatever the module's default is.
MODULES = {
    "virtio_pci": "",
    "virtio_blk": "",
    "virtio_console": "",
    "virtio_rng": "",
    "virtiofs": "",
    "ext4": "",
    "kvm_amd": "npt=1 nested=0",
    "tun": "",
    "vhost_net": "",
    "vhost_vsock": "",
}
DISK_SIZE = "8G"
PLAIN = System("disk", PACKAGES, "/bin/busybox sh /run/testbed/agent", words="audit=0")
"""The tools that the tests call, and no service."""


@dataclass(frozen=True)
class Image:
    """The files of a machine that is ready to boot."""

    kernel: Path
    initramfs: Path
    disk: Path


def disk_recipe(system: System) -> tuple[str, ...]:
    """Return what a root disk depends on."""
    recipe = (suite(), *system.packages, *UNNEEDED, DISK_SIZE)
    if system.repository:
        recipe += ("repository", *system.repository, REPOSITORY.read_text())
    return recipe


def image(system: System = PLAIN) -> Image:
    """Return a system's image, built at the first use."""
    kernel = debian_kernel()
    init = (HERE / "guest/init").read_bytes()
    modules = "".join(f"{name} {arguments}\n" for name, arguments in MODULES.items())
    recipe = (str(kernel.modules), modules, init, BUSYBOX.read_bytes())
    initramfs = cached("testbed", recipe, partial(build_initramfs, kernel=kernel))
    disk = cached(system.name, disk_recipe(system), partial(build_disk, system=system))
    return Image(kernel.vmlinux, initramfs / "initramfs", disk / "disk.img")


def build_initramfs(target: Path, *, kernel: Kernel) -> None:
    """Build the part of the initramfs that is the same in every run."""
    say("building the testbed's initramfs")
    entries = [
        *(directory(name) for name in ("bin", "dev", "proc", "sys", "root")),
        script("init", (HERE / "guest/init").read_bytes()),
        script("bin/busybox", BUSYBOX.read_bytes()),
        *packed(kernel.modules, MODULES),
    ]
    (target / "initramfs").write_bytes(archive(entries))


def build_disk(target: Path, *, system: System) -> None:
    """Install Debian for the testbed."""
    say(f"installing Debian {suite()} for the testbed, {system.name} (about a minute, once)")
    hooks = [f'{REPOSITORY} "$1" {" ".join(system.repository)}'] if system.repository else []
    install(target, system.packages, DISK_SIZE, filesystem=["-O", "^has_journal"], hooks=hooks)
