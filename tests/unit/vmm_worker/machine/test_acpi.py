# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables, by their own checksums and by ACPICA's compiler."""

import shutil
import struct
import subprocess

import pytest

from vmm_worker.machine import acpi, layout

TABLES = {
    "dsdt": lambda: acpi.dsdt(serial=True),
    "dsdt-without-serial": lambda: acpi.dsdt(serial=False),
    "facp": lambda: acpi.fadt(0xE0040),
    "apic": lambda: acpi.madt([0]),
    "apic-254": lambda: acpi.madt(range(254)),
    "apic-x2apic": lambda: acpi.madt([0, 1, 254, 255, 300, 4000]),
    "mcfg": acpi.mcfg,
    "xsdt": lambda: acpi.xsdt([0xE0040, 0xE0400]),
}


def iasl(*arguments, folder):
    """Run ACPICA's compiler; it is part of what the project's setup installs."""
    program = shutil.which("iasl")
    assert program, "iasl is missing: install acpica-tools"
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return text


@pytest.mark.parametrize("name", TABLES)
def test_sum_is_zero_and_length_is_true(name):
    data = TABLES[name]()
    assert sum(data) % 256 == 0
    assert struct.unpack_from("<I", data, 4) == (len(data),)
    assert data[10:16] == b"VELUM "


@pytest.mark.parametrize("name", TABLES)
def test_round_trip_through_iasl(name, tmp_path):
    data = TABLES[name]()
    (tmp_path / "table.aml").write_bytes(data)
    text = iasl("-d", "table.aml", folder=tmp_path)
    assert "Warning" not in text
    assert "Error" not in text
    source = (tmp_path / "table.dsl").read_text()
    for complaint in ("Invalid", "Unknown", "Error", "Warning", "*****"):
        assert complaint not in source
    text = iasl("-oa", "-p", "again", "table.dsl", folder=tmp_path)
    assert "0 Errors, 0 Warnings, 0 Remarks" in text
    again = (tmp_path / "again.aml").read_bytes()
    # The compiler signs the table as its own creator, which also changes the checksum.
    assert without_creator(again) == without_creator(data)


def without_creator(table):
    return table[:9] + table[10:28] + table[36:]


def test_rsdp():
    data = acpi.rsdp(0x1234_5678_9ABC)
    assert len(data) == 36
    assert data[:8] == b"RSD PTR "
    assert sum(data[:20]) % 256 == 0
    assert sum(data) % 256 == 0
    assert struct.unpack_from("<BIIQ", data, 15) == (2, 0, 36, 0x1234_5678_9ABC)


def test_fadt_describes_hardware_reduced_acpi():
    data = acpi.fadt(0xE0040)
    assert len(data) == 276
    assert (data[8], data[131]) == (6, 3)
    (flags,) = struct.unpack_from("<I", data, 112)
    assert flags & (1 << 20 | 1 << 10 | 1 << 8) == (1 << 20 | 1 << 10 | 1 << 8)
    port = struct.pack("<BBBBQ", 1, 8, 0, 1, 0x600)
    assert data[116:129] == port + b"\x01"
    assert data[244:268] == port * 2
    assert data[208:220] == struct.pack("<BBBBQ", 1, 32, 0, 3, 0x608)
    assert struct.unpack_from("<I", data, 40) == (0,)
    assert struct.unpack_from("<Q", data, 140) == (0xE0040,)


def madt_entries(data):
    position = 44
    while position < len(data):
        kind, size = data[position], data[position + 1]
        yield kind, data[position : position + size]
        position += size


def test_madt_has_every_processor_once():
    ids = [0, 1, 2, 254, 255, 256]
    entries = list(madt_entries(acpi.madt(ids)))
    xapic = [struct.unpack_from("<BBI", e, 2) for kind, e in entries if kind == 0]
    x2apic = [struct.unpack_from("<III", e, 4) for kind, e in entries if kind == 9]
    assert xapic == [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 254, 1)]
    assert x2apic == [(255, 1, 4), (256, 1, 5)]
    assert [kind for kind, _ in entries][-4:] == [1, 2, 4, 10]


def follow(image):
    """Read the tables the way a guest does, from the RSDP on."""

    def at(address):
        offset = address - layout.ACPI_START
        (size,) = struct.unpack_from("<I", image, offset + 4)
        assert 0 <= offset < offset + size <= len(image)
        assert address % 16 == 0
        return image[offset : offset + size]

    (address,) = struct.unpack_from("<Q", image, 24)
    xsdt = at(address)
    tables = [at(entry) for (entry,) in struct.iter_unpack("<Q", xsdt[36:])]
    tables.append(at(struct.unpack_from("<Q", tables[0], 140)[0]))
    return xsdt, *tables


@pytest.mark.parametrize("vcpus", [1, 2, 254])
def test_guest_finds_every_table(vcpus):
    image = acpi.acpi_tables(range(vcpus), serial=True)
    assert layout.ACPI_START + len(image) <= layout.ACPI_END
    tables = follow(image)
    assert [t[:4] for t in tables] == [b"XSDT", b"FACP", b"APIC", b"MCFG", b"DSDT"]
    assert all(sum(table) % 256 == 0 for table in tables)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        acpi.acpi_tables([300] * 8192, serial=True)


def test_dsdt_has_the_devices(tmp_path):
    (tmp_path / "dsdt.aml").write_bytes(acpi.dsdt(serial=True))
    iasl("-d", "dsdt.aml", folder=tmp_path)
    source = (tmp_path / "dsdt.dsl").read_text()
    for hid in ("PNP0A08", "PNP0C02", "PNP0501", "PNP0B00", "PNP0C0C", "ACPI0013"):
        assert hid in source
    assert "Notify (PWRB, 0x80)" in source
    (tmp_path / "dsdt.aml").write_bytes(acpi.dsdt(serial=False))
    iasl("-d", "dsdt.aml", folder=tmp_path)
    assert "PNP0501" not in (tmp_path / "dsdt.dsl").read_text()
