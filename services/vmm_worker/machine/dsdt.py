# SPDX-License-Identifier: Apache-2.0
"""The DSDT: the devices that a guest cannot find by probing."""

from __future__ import annotations

from vmm_worker.machine import aml, layout
from vmm_worker.machine.resources import (
    bus_numbers,
    interrupt,
    io,
    io_window,
    irq,
    memory,
    memory_window,
    resource_template,
)

__all__ = ["SLEEP_TYPE_S5", "dsdt_body"]

SLEEP_TYPE_S5 = 5
"""What the guest writes as SLP_TYP to power off; the shim's ACPI device knows it."""
GED_FLAG_POWER_BUTTON = 8
NOTIFY_BUTTON_PRESSED = 0x80
PORT_LAST = 0xFFFF
PCI_OSC_UUID = "33db4d5b-1ff7-401c-9657-7441c03dd766"
OSC_UNRECOGNIZED_UUID = 4


def dsdt_body(*, serial: bool) -> bytes:
    """Return the AML of the machine's devices; ``serial`` says whether COM1 is there."""
    devices = [pci_root(), motherboard(), real_time_clock(), power_button(), event_device()]
    if serial:
        devices.append(serial_port())
    s5 = aml.package(aml.integer(SLEEP_TYPE_S5))
    return aml.scope("\\_SB", *devices) + aml.name("\\_S5", s5)


def pci_root() -> bytes:
    """Return the PCI root: bus 0, every port that is not the bridge's own, the window."""
    config = layout.PCI_CONFIG_PORT
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A08")),
        aml.name("_CID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_SEG", aml.integer(0)),
        aml.name("_BBN", aml.integer(0)),
        aml.name(
            "_CRS",
            resource_template(
                bus_numbers(0, 0),
                io(config, 8),
                io_window(0, config - 1),
                io_window(config + 8, PORT_LAST),
                memory_window(layout.PCI_WINDOW_START, layout.PCI_WINDOW_END - 1),
            ),
        ),
        pci_osc(),
    )


def pci_osc() -> bytes:
    """Return ``_OSC``, which hands every PCI Express feature to the guest (6.2.11.3).

    The machine has no firmware that would want to keep one, and without the method an
    OS has to assume the opposite.
    """
    capabilities = aml.arg(3)
    return aml.method(
        "_OSC",
        4,
        aml.if_(aml.equal(aml.arg(0), aml.uuid(PCI_OSC_UUID)), aml.return_(capabilities)),
        aml.create_dword_field(capabilities, 0, "STAT"),
        aml.or_(
            aml.name_string("STAT"),
            aml.integer(OSC_UNRECOGNIZED_UUID),
            aml.name_string("STAT"),
        ),
        aml.return_(capabilities),
        serialized=True,
    )


def motherboard() -> bytes:
    """Return the claims on ranges that belong to no other device.

    ECAM must be claimed outside of the PCI root (PCI Firmware Specification 3.2, 4.1.2):
    Linux does not trust the MCFG table otherwise.
    """
    return aml.device(
        "MBRD",
        aml.name("_HID", aml.eisa_id("PNP0C02")),
        aml.name("_UID", aml.integer(0)),
        aml.name(
            "_CRS",
            resource_template(
                memory(layout.ECAM, layout.ECAM_SIZE),
                memory(layout.PLATFORM_MMIO, layout.PLATFORM_MMIO_SIZE),
                io(layout.DEBUG_PORT, 1),
                io(layout.ACPI_SLEEP_PORT, 1),
                io(layout.ACPI_TIMER_PORT, 4),
            ),
        ),
    )


def real_time_clock() -> bytes:
    """Return the CMOS clock, which has no interrupt and so no alarm."""
    return aml.device(
        "RTC0",
        aml.name("_HID", aml.eisa_id("PNP0B00")),
        aml.name("_CRS", resource_template(io(layout.CMOS_PORT, 2))),
    )


def serial_port() -> bytes:
    """Return COM1."""
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_DDN", aml.string("COM1")),
        aml.name("_CRS", resource_template(io(layout.SERIAL_PORT, 8), irq(layout.SERIAL_GSI))),
    )


def power_button() -> bytes:
    """Return the power button, which only ever says that it was pressed."""
    return aml.device("PWRB", aml.name("_HID", aml.eisa_id("PNP0C0C")))


def event_device() -> bytes:
    """Return the Generic Event Device (5.6.9), the interrupt of hardware-reduced ACPI.

    Reading the flags clears them, so the method reads them once.
    """
    flags, pending = "FLAG", aml.local(0)
    return aml.device(
        "GED0",
        aml.name("_HID", aml.string("ACPI0013")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", resource_template(interrupt(layout.GED_GSI))),
        aml.operation_region("GEDR", layout.PLATFORM_MMIO, 1),
        aml.field("GEDR", (flags, 8)),
        aml.method(
            "_EVT",
            1,
            aml.store(aml.name_string(flags), pending),
            aml.if_(
                aml.and_(pending, aml.integer(GED_FLAG_POWER_BUTTON)),
                aml.notify("PWRB", NOTIFY_BUTTON_PRESSED),
            ),
            serialized=True,
        ),
    )
