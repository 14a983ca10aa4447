# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables (ACPI 6.3): RSDP, XSDT, FADT, MADT, MCFG and DSDT, hardware-reduced."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmm_worker.machine import layout
from vmm_worker.machine.dsdt import dsdt_body

__all__ = ["RESET_VALUE", "acpi_tables", "dsdt", "fadt", "madt", "mcfg", "rsdp", "xsdt"]

OEM_ID = b"VELUM "
OEM_TABLE_ID = b"VELUMPC "
OEM_REVISION = 1
CREATOR_ID = b"VELM"
CREATOR_REVISION = 1
HEADER = struct.Struct("<4sIBB6s8sI4sI")
CHECKSUM_AT = 9
TABLE_ALIGNMENT = 16

# FADT flags (table 5-34). Buttons are control-method devices; there is no fixed hardware.
WBINVD = 1 << 0
PROC_C1 = 1 << 2
PWR_BUTTON = 1 << 4
SLP_BUTTON = 1 << 5
TMR_VAL_EXT = 1 << 8
RESET_REG_SUP = 1 << 10
HW_REDUCED_ACPI = 1 << 20
# IA-PC boot architecture flags (table 5-35). Bit 1 is clear: the i8042 resets and does
# nothing else, so an OS that probed it for a keyboard would wait for one in vain.
VGA_NOT_PRESENT = 1 << 2
RESET_VALUE = 1
CMOS_CENTURY = 0x32
FADT_SIZE = 276

MADT_PCAT_COMPAT = 1
MADT_ENABLED = 1
MADT_ALL_PROCESSORS = 0xFF
MADT_ALL_X2APIC_PROCESSORS = 0xFFFF_FFFF
MADT_EDGE_ACTIVE_HIGH = 0x5
LAST_XAPIC_ID = 254
LINT_NMI = 1


def checksum(data: bytes | bytearray) -> int:
    """Return the byte that brings the sum of ``data`` to zero."""
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """Put the system description header (5.2.6) before ``body``."""
    size = HEADER.size + len(body)
    header = HEADER.pack(
        *(signature, size, revision, 0, OEM_ID, OEM_TABLE_ID, OEM_REVISION),
        *(CREATOR_ID, CREATOR_REVISION),
    )
    encoded = bytearray(header + body)
    encoded[CHECKSUM_AT] = checksum(encoded)
    return bytes(encoded)


def port_register(port: int, size: int) -> bytes:
    """Encode a Generic Address Structure (5.2.3.2) of ``size`` bytes in port space."""
    access = size.bit_length()
    return struct.pack("<BBBBQ", 1, size * 8, 0, access, port)


def rsdp(xsdt_address: int) -> bytes:
    """Return the Root System Description Pointer, revision 2 (5.2.5.3)."""
    encoded = bytearray(
        struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM_ID, 2, 0, 36, xsdt_address, 0)
    )
    encoded[8] = checksum(encoded[:20])
    encoded[32] = checksum(encoded)
    return bytes(encoded)


def xsdt(addresses: Sequence[int]) -> bytes:
    """Return the table of tables (5.2.8)."""
    return table(b"XSDT", 1, struct.pack(f"<{len(addresses)}Q", *addresses))


def fadt(dsdt_address: int) -> bytes:
    """Return the FADT, revision 6.3 (5.2.9).

    Hardware-reduced: what describes fixed hardware stays zero, save for the PM timer,
    which Linux also reads from the extended block.
    """
    encoded = bytearray(FADT_SIZE - HEADER.size)

    def put(offset: int, data: bytes) -> None:
        encoded[offset - HEADER.size : offset - HEADER.size + len(data)] = data

    flags = WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | TMR_VAL_EXT | RESET_REG_SUP
    sleep = port_register(layout.ACPI_SLEEP_PORT, 1)
    put(108, bytes((CMOS_CENTURY,)))
    put(109, struct.pack("<H", VGA_NOT_PRESENT))
    put(112, struct.pack("<I", flags | HW_REDUCED_ACPI))
    put(116, sleep + bytes((RESET_VALUE,)))
    put(131, bytes((3,)))  # minor version
    put(140, struct.pack("<Q", dsdt_address))
    put(208, port_register(layout.ACPI_TIMER_PORT, 4))
    put(244, sleep)  # sleep control
    put(256, sleep)  # sleep status
    put(268, OEM_TABLE_ID)  # hypervisor vendor identity
    return table(b"FACP", 6, bytes(encoded))


def madt(apic_ids: Sequence[int]) -> bytes:
    """Return the MADT (5.2.12): one processor for each APIC id, in order."""
    body = struct.pack("<II", layout.LAPIC, MADT_PCAT_COMPAT)
    for uid, apic_id in enumerate(apic_ids):
        if apic_id <= LAST_XAPIC_ID:
            body += struct.pack("<BBBBI", 0, 8, uid, apic_id, MADT_ENABLED)
        else:
            body += struct.pack("<BBHIII", 9, 16, 0, apic_id, MADT_ENABLED, uid)
    body += struct.pack("<BBBBII", 1, 12, 0, 0, layout.IOAPIC, 0)
    # Without this an OS that finds no PIC (as on hardware-reduced machines) has nothing
    # to derive COM1's polarity and trigger mode from before it reads the DSDT.
    gsi = layout.SERIAL_GSI
    body += struct.pack("<BBBBIH", 2, 10, 0, gsi, gsi, MADT_EDGE_ACTIVE_HIGH)
    body += struct.pack("<BBBHB", 4, 6, MADT_ALL_PROCESSORS, 0, LINT_NMI)
    if max(apic_ids) > LAST_XAPIC_ID:
        body += struct.pack("<BBHIB3x", 10, 12, 0, MADT_ALL_X2APIC_PROCESSORS, LINT_NMI)
    return table(b"APIC", 5, body)


def mcfg() -> bytes:
    """Return the MCFG table (PCI Firmware Specification 3.2, 4.1.2): segment 0, bus 0."""
    return table(b"MCFG", 1, struct.pack("<8xQHBB4x", layout.ECAM, 0, 0, 0))


def dsdt(*, serial: bool) -> bytes:
    """Return the DSDT; revision 2 makes AML integers 64 bits wide."""
    return table(b"DSDT", 2, dsdt_body(serial=serial))


def acpi_tables(apic_ids: Sequence[int], *, serial: bool) -> bytes:
    """Return all tables, to be put at ``layout.ACPI_START``, the RSDP first."""
    image = bytearray(TABLE_ALIGNMENT * 3)

    def place(encoded: bytes) -> int:
        image.extend(bytes(-len(image) % TABLE_ALIGNMENT))
        image.extend(encoded)
        return layout.ACPI_START + len(image) - len(encoded)

    dsdt_address = place(dsdt(serial=serial))
    addresses = [place(fadt(dsdt_address)), place(madt(apic_ids)), place(mcfg())]
    pointer = rsdp(place(xsdt(addresses)))
    image[: len(pointer)] = pointer
    if len(image) > layout.ACPI_END - layout.ACPI_START:
        raise ValueError(f"{len(image)} bytes of ACPI tables do not fit below 1 MiB")
    return bytes(image)
