# SPDX-License-Identifier: Apache-2.0
"""What the testbed's machine boots: kernel, initramfs and root disk."""

import os
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import Kernel, debian_kernel, suite
from tests.guests.linux.modules import ordered
from tests.testbed.cache import cached, path_of, say
from tests.testbed.cpio import archive, directory, file, script

__all__ = ["Image", "built", "image"]

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")

PACKAGES = (
    "busybox-static",  # the agent's shell
    "curl",
    "iproute2",
    "libasan8",  # the sanitizers' runtimes
    "libubsan1",
    "liburing2",
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
UNNEEDED = ("doc", "info", "lintian", "locale", "man")
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
    modules = ordered(kernel.modules, MODULES)
    order = "".join(f"{module.name} {MODULES.get(module.name, '')}\n" for module in modules)
    entries = [
        *(directory(name) for name in ("bin", "dev", "proc", "sys", "root", "modules")),
        script("init", (HERE / "guest/init").read_bytes()),
        script("bin/busybox", BUSYBOX.read_bytes()),
        *(file(f"modules/{module.name}.ko", module.data) for module in modules),
        file("modules/order", order.encode()),
    ]
    (target / "initramfs").write_bytes(archive(entries))


def build_disk(target: Path) -> None:
    """Install Debian into a folder and turn it into a file system image."""
    say(f"installing Debian {suite()} for the testbed (about a minute, once)")
    tree, disk = target / "root", target / "disk.img"
    environment = os.environ | {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"] + ":/usr/sbin"}
    # An ordinary user gets subordinate ids, and everything that touches the tree
    # runs under the same mapping, so that files keep their owners.
    privileged = os.geteuid() == 0
    mapped = [] if privileged else ["mmdebstrap", "--unshare-helper"]
    run = partial(subprocess.run, check=True, env=environment, stdout=subprocess.DEVNULL)
    target.chmod(0o755 if privileged else 0o777)
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory"),
            f"--mode={'root' if privileged else 'unshare'}",
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNNEEDED),
            f"--include={','.join(PACKAGES)}",
            *(suite(), tree),
        ]
    )
    say("writing the root disk")
    options = "lazy_itable_init=1,nodiscard"
    make = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", options]
    run([*mapped, *make, "-d", tree, disk, DISK_SIZE])
    run([*mapped, "rm", "-rf", "--one-file-system", tree])
    target.chmod(0o755)
