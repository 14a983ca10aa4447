# SPDX-License-Identifier: Apache-2.0
"""The Debian guest: kernel, initramfs, and a root file system with a journal and systemd."""

import os
import shlex
import subprocess
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.guests.linux.bzimage import release
from tests.guests.linux.kernel import Kernel, debian_kernel, suite
from tests.guests.linux.modules import packed
from tests.testbed.cache import cached, say
from tests.testbed.cpio import archive, directory, script
from tests.testbed.rootfs import UNNEEDED, install

__all__ = ["Debian", "command_line", "debian", "debian_files"]

HERE = Path(__file__).parent
AGENT = HERE.parent / "agent/agent"
BUSYBOX = Path("/bin/busybox")
VARIABLE = "VELUM_DEBIAN"

PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod"),
    *("e2fsprogs", "fdisk", "procps", "util-linux"),
    *("iproute2", "iputils-ping", "openssh-server"),
    *("fio", "iperf3", "python3-minimal"),
)
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"),
    *("virtio_balloon", "virtio_pmem", "nd_pmem", "vmw_vsock_virtio_transport"),
    *("pvpanic-pci", "button", "evdev", "ext4"),
)
# Each costs a part of a second of a boot under emulation; some would change the disk.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "systemd-tmpfiles-clean.timer"),
    *("getty@tty1.service", "systemd-networkd-wait-online.service", "systemd-pstore.service"),
    *("systemd-random-seed.service", "systemd-update-utmp.service"),
    *("systemd-update-utmp-runlevel.service", "systemd-journal-flush.service"),
    *("systemd-network-generator.service", "systemd-sysusers.service", "systemd-binfmt.service"),
    *("systemd-modules-load.service", "systemd-remount-fs.service", "kmod-static-nodes.service"),
    *(f"modprobe@{name}.service" for name in ("configfs", "dm_mod", "drm", "fuse", "loop")),
    *("modprobe@efi_pstore.service", "proc-sys-fs-binfmt_misc.automount", "dev-mqueue.mount"),
    *("sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "dev-hugepages.mount"),
    *("systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
)
SIZE = "2G"
LABEL = "velum-debian"


@dataclass(frozen=True)
class Debian:
    """The files of the guest, none of which is to be written to."""

    kernel: Path
    vmlinux: Path
    initramfs: Path
    disk: Path
    """A sparse raw image, to be copied."""
    key: Path
    """The private key of root's."""
    known_hosts: Path
    """The guest's key, under the name "velum" for any address."""

    def ssh(self, address: str, *command: str) -> list[str]:
        """Return the command that runs a command in the guest as root."""
        options = ("BatchMode=yes", "HostKeyAlias=velum", f"UserKnownHostsFile={self.known_hosts}")
        flags = [argument for option in options for argument in ("-o", option)]
        return ["ssh", "-i", str(self.key), *flags, f"root@{address}", *command]

    def copy_disk(self, target: Path) -> None:
        """Make a disk that may be written to; takes the space of what is in use."""
        subprocess.run(["cp", "--sparse=always", self.disk, target], check=True)


def debian() -> Debian:
    """Return the guest, built at the first use."""
    given = os.environ.get(VARIABLE)
    place = Path(given) if given else built()
    return Debian(
        kernel=place / "bzImage",
        vmlinux=place / "vmlinux",
        initramfs=place / "initramfs",
        disk=place / "disk.img",
        key=place / "key",
        known_hosts=place / "known_hosts",
    )


def debian_files() -> dict[str, str]:
    """Return the environment that names the guest to programs in the testbed."""
    return {VARIABLE: str(debian().disk.parent)}


def command_line(console: str = "ttyS0", *, address: str = "", agent: str = "") -> str:
    """Return a kernel command line.

    Args:
        console: The terminal of the kernel, on which one can log in.
        address: "ADDRESS/PREFIX[,GATEWAY]" for the first network interface, in place of DHCP.
        agent: The terminal that the agent takes commands from.
    """
    words = [f"console={console}", "quiet", "panic=-1", "reboot=t", "systemd.show_status=no"]
    words += [f"velum.ip={address}"] if address else []
    words += [f"velum.agent={agent}"] if agent else []
    return " ".join(words)


def built() -> Path:
    """Return the folder of all files."""
    kernel = debian_kernel()
    root = cached("debian-root", disk_recipe(kernel), partial(build_disk, kernel=kernel))
    recipe = (str(root), *MODULES, (HERE / "init").read_bytes(), BUSYBOX.read_bytes())
    return cached("debian", recipe, partial(build, kernel=kernel, root=root))


def disk_recipe(kernel: Kernel) -> list[str | bytes]:
    """Return what the root file system depends on."""
    recipe: list[str | bytes] = [suite(), str(kernel.modules), *PACKAGES, *MASKED, *UNNEEDED]
    recipe += [SIZE, LABEL, AGENT.read_bytes()]
    for path in own_files():
        recipe += [str(path.relative_to(HERE)), path.read_bytes()]
    return recipe


def own_files() -> list[Path]:
    """Return the files of ours that stand in the root file system."""
    return sorted(path for path in (HERE / "root").rglob("*") if path.is_file())


def build_disk(target: Path, *, kernel: Kernel) -> None:
    """Install Debian with the kernel's modules, our files and fresh keys."""
    say(f"installing Debian {suite()} for the guest (about two minutes, once)")
    version = release(kernel.bzimage.read_bytes())
    overlay = target / "overlay.tar"
    with tarfile.open(overlay, "w") as tar:
        tar.add(kernel.modules, f"usr/lib/modules/{version}", filter=owned_by_root)
        tar.add(AGENT, "usr/local/sbin/velum-agent", filter=owned_by_root)
        for path in own_files():
            tar.add(path, path.relative_to(HERE / "root"), filter=owned_by_root)
    inside = (
        f"depmod {version}",
        f"systemctl --quiet mask {' '.join(MASKED)}",
        "systemctl --quiet enable systemd-networkd ssh",
        "systemctl --quiet set-default multi-user.target",
        "ln -s /dev/null /etc/systemd/network/99-default.link",  # eth0 stays eth0
        "rm -f /etc/ssh/ssh_host_*",
        "ssh-keygen -q -t ed25519 -N '' -C velum -f /etc/ssh/ssh_host_ed25519_key",
        "ssh-keygen -q -t ed25519 -N '' -C velum -f /key",
        "mkdir -p -m 700 /root/.ssh",
        "mv /key.pub /root/.ssh/authorized_keys",
        "sed 's/^/velum /' /etc/ssh/ssh_host_ed25519_key.pub >/known_hosts",
    )
    hooks = (
        f"tar-in {overlay} /",
        f'chroot "$1" sh -euc {shlex.quote("; ".join(inside))}',
        f"download /key {target}/key",
        f"download /known_hosts {target}/known_hosts",
        'rm "$1/key" "$1/known_hosts"',
    )
    install(target, PACKAGES, SIZE, filesystem=["-L", LABEL], hooks=hooks)
    (target / "key").chmod(0o600)
    overlay.unlink()


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give a file of ours to the guest's root."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def build(target: Path, *, kernel: Kernel, root: Path) -> None:
    """Put the kernel and the disk beside an initramfs that joins them."""
    entries = [
        *(directory(name) for name in ("bin", "dev", "proc", "run", "sys", "root")),
        script("init", (HERE / "init").read_bytes()),
        script("bin/busybox", BUSYBOX.read_bytes()),
        *packed(kernel.modules, dict.fromkeys(MODULES, "")),
    ]
    (target / "initramfs").write_bytes(archive(entries))
    for path in (kernel.bzimage, kernel.vmlinux, *root.iterdir()):
        (target / path.name).symlink_to(path)
