# SPDX-License-Identifier: Apache-2.0
"""The few bytes of BIOS that the machine has: what runs when a guest jumps to the reset vector.

Linux does so to reboot. On a hardware-reduced ACPI machine it prefers EFI to the FADT's
reset register, and when there is no EFI goes on to the next method of its list, a jump in
real mode to f000:fff0.
"""

from __future__ import annotations

import struct

from vmm_worker.machine import layout
from vmm_worker.machine.acpi import RESET_VALUE

__all__ = ["reset_vector"]


def reset_vector() -> bytes:
    """Return the code for ``layout.RESET_VECTOR``: 16-bit, the last 16 bytes below 1 MiB."""
    return (
        struct.pack("<BH", 0xBA, layout.ACPI_SLEEP_PORT)  # mov dx, port
        + struct.pack("<BB", 0xB0, RESET_VALUE)  # mov al, value
        + b"\xee"  # out dx, al
        + b"\xf4"  # hlt
        + b"\xeb\xfd"  # jmp to the hlt
    )
