# SPDX-License-Identifier: Apache-2.0
"""The addresses of the machine, all in one place.

Everything the guest is told about them (e820, ACPI, boot structures) is computed from
these names, so that no two descriptions can disagree.
"""

from __future__ import annotations

__all__ = [
    "ACPI_END",
    "ACPI_SLEEP_PORT",
    "ACPI_START",
    "ACPI_TIMER_PORT",
    "BOOT_STACK",
    "CMDLINE",
    "CMDLINE_CAPACITY",
    "CMOS_PORT",
    "DEBUG_PORT",
    "ECAM",
    "ECAM_SIZE",
    "GDT",
    "GED_GSI",
    "HIGH_RAM",
    "IOAPIC",
    "KERNEL",
    "LAPIC",
    "LEGACY_END",
    "LEGACY_START",
    "MIB",
    "PAGE",
    "PAGE_TABLES",
    "PCI_BAR_SIZE",
    "PCI_CONFIG_PORT",
    "PCI_WINDOW_END",
    "PCI_WINDOW_START",
    "PLATFORM_MMIO",
    "PLATFORM_MMIO_SIZE",
    "PVH_MEMORY_MAP",
    "PVH_MEMORY_MAP_CAPACITY",
    "PVH_MODULES",
    "PVH_START_INFO",
    "RAM_GAP_START",
    "RESET_VECTOR",
    "SERIAL_GSI",
    "SERIAL_PORT",
    "ZERO_PAGE",
]

PAGE = 4096
MIB = 1 << 20

# Conventional memory, below 640 KiB. Boot structures live here because every boot
# protocol promises to be done with the first megabyte before it hands pages out.
GDT = 0x500
"""Boot GDT and IDT, just above the BIOS data area."""
PVH_START_INFO = 0x6000
PVH_MODULES = 0x6040
PVH_MEMORY_MAP = 0x6100
PVH_MEMORY_MAP_CAPACITY = (0x7000 - PVH_MEMORY_MAP) // 24
ZERO_PAGE = 0x7000
"""``struct boot_params`` of the 64-bit Linux boot protocol."""
BOOT_STACK = 0x8FF0
PAGE_TABLES = 0x9000
"""Six pages: PML4, PDPT and four page directories, the first 4 GiB one to one."""
CMDLINE = 0x20000
CMDLINE_CAPACITY = 0x10000
"""Bytes for the command line with its NUL."""

# The hole a PC has between 640 KiB and 1 MiB. It is ordinary RAM underneath, but reserved
# in the memory map, so tables in it survive the guest. The RSDP stands where a scan of
# the BIOS area (ACPI 6.3, 5.2.5.1) finds it too.
LEGACY_START = 0xA0000
LEGACY_END = 0x100000
ACPI_START = 0xE0000
RESET_VECTOR = 0xFFFF0
ACPI_END = RESET_VECTOR

KERNEL = LEGACY_END
"""The lowest address a kernel may occupy."""

# The 32-bit gap: devices, and what the CPU architecture puts below 4 GiB.
RAM_GAP_START = 0xC000_0000
PCI_WINDOW_START = 0xC000_0000
PCI_WINDOW_END = 0xE700_0000
PCI_BAR_SIZE = 0x8_0000
"""Of a virtio device; BAR 0 of slot N starts out as the Nth piece of the window."""
PLATFORM_MMIO = 0xE700_0000
"""The Generic Event Device's flags; room for the registers of hotplug."""
PLATFORM_MMIO_SIZE = PAGE
ECAM = 0xE800_0000
ECAM_SIZE = MIB
"""One bus of 256 functions, 4 KiB each."""
IOAPIC = 0xFEC0_0000
LAPIC = 0xFEE0_0000
HIGH_RAM = 0x1_0000_0000

# Ports and interrupts.
CMOS_PORT = 0x70
DEBUG_PORT = 0x80
SERIAL_PORT = 0x3F8
SERIAL_GSI = 4
ACPI_SLEEP_PORT = 0x600
ACPI_TIMER_PORT = 0x608
PCI_CONFIG_PORT = 0xCF8
GED_GSI = 5
"""The first GSI that no ISA device of this machine is known by."""
