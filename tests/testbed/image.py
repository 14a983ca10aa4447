# SPDX-License-Identifier: Apache-2.0
"""What the testbed's machine boots: kernel, initramfs and root disk."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import Kernel, debian_kernel, suite
from tests.guests.linux.modules import packed
from tests.testbed.cache import cached, path_of, say
from tests.testbed.cpio import archive, directory, script
from tests.testbed.rootfs import UNNEEDED, install

__all__ = ["Image", "built", "image"]

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")

PACKAGES = (
    "busybox-static",  # the agent's shell
    "curl",
    "e2fsprogs",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "libasan8",  # the sanitizers' runtimes
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


@dataclass(frozen=True)
class Image:
    """The files of a machine that is ready to boot."""

    kernel: Path
    initramfs: Path
    disk: Path


def disk_recipe() -> tuple[str, ...]:
    """Return what the root disk depends on."""
    return (suite(), *PACKAGES, *UNNEEDED, DISK_SIZE)


def built() -> bool:
    """Tell whether the root disk, which takes a minute, is in the cache."""
    return path_of("disk", disk_recipe()).is_dir()


def image() -> Image:
    """Return the image, built at the first use."""
    kernel = debian_kernel()
    init = (HERE / "guest/init").read_bytes()
    modules = "".join(f"{name} {arguments}\n" for name, arguments in MODULES.items())
    recipe = (str(kernel.modules), modules, init, BUSYBOX.read_bytes())
    initramfs = cached("testbed", recipe, partial(build_initramfs, kernel=kernel))
    disk = cached("disk", disk_recipe(), build_disk)
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


def build_disk(target: Path) -> None:
    """Install Debian for the testbed."""
    say(f"installing Debian {suite()} for the testbed (about a minute, once)")
    install(target, PACKAGES, DISK_SIZE, filesystem=["-O", "^has_journal"])
