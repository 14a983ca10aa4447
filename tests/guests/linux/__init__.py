# SPDX-License-Identifier: Apache-2.0
"""Builder of the Linux test guest: Debian's kernel with a small initramfs."""

from tests.guests.linux.initramfs import READY, Guest, linux_guest

__all__ = ["READY", "Guest", "linux_guest"]
