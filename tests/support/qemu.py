# SPDX-License-Identifier: Apache-2.0
"""The Debian guest in QEMU: the same files and kernel command line, another monitor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.guests.debian import command_line, debian

__all__ = ["qemu_command"]


def qemu_command(
    directory: Path,
    disk: Path,
    *,
    address: str = "",
    vcpus: int = 1,
    memory: int = 512,
    devices: Sequence[str] = (),
) -> list[str]:
    """Return a QEMU with the agent on ``directory/agent.sock`` and a login on ``console``.

    Args:
        directory: Where the socket and the console's file are.
        disk: The root disk.
        address: As in ``command_line``.
        vcpus: vCPUs.
        memory: MiB of RAM.
        devices: More of its command line.
    """
    guest = debian()
    return [
        *("qemu-system-x86_64", "-M", "q35", "-enable-kvm", "-cpu", "host"),
        *("-smp", str(vcpus), "-m", str(memory)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initramfs)),
        *("-append", command_line("hvc0", address=address, agent="ttyS0")),
        *("-serial", f"unix:{directory / 'agent.sock'},server=on,wait=off"),
        *("-chardev", f"file,id=console,path={directory / 'console'}"),
        *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"),
        *("-device", "virtio-rng-pci"),
        *("-drive", f"id=root,file={disk},format=raw,if=none,cache=writeback,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=root"),
        *devices,
    ]
