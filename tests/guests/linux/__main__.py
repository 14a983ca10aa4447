# SPDX-License-Identifier: Apache-2.0
"""Builds the Linux test guest and prints where its files are."""

from tests.guests.linux import linux_guest

guest = linux_guest()
print(f"KERNEL={guest.kernel}")
print(f"VMLINUX={guest.vmlinux}")
print(f"INITRAMFS={guest.initramfs}")
