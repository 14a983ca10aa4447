# SPDX-License-Identifier: Apache-2.0
"""Builder of the Debian guest: a whole system on a disk, which any virtio machine boots."""

from tests.guests.debian.image import Debian, command_line, debian, debian_files

__all__ = ["Debian", "command_line", "debian", "debian_files"]
