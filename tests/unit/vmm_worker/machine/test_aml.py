# SPDX-License-Identifier: Apache-2.0
"""The AML builder, byte for byte against encodings taken from the specification."""

import pytest

from vmm_worker.machine import aml


@pytest.mark.parametrize(
    ("content", "prefix"),
    [
        (0, "01"),
        (62, "3f"),
        (63, "4104"),  # the first that needs two bytes: 65 = 0x041
        (4093, "4fff"),
        (4094, "810001"),  # 4097 = 0x1001
        (0xFFFFC, "8fffff"),
        (0xFFFFD, "c1000001"),  # 0x100001
    ],
)
def test_package_length_counts_itself(content, prefix):
    data = bytes(content)
    assert aml.package_length(data) == bytes.fromhex(prefix) + data


def test_package_length_has_a_limit():
    class Huge(bytes):
        def __len__(self):
            return 1 << 28

    with pytest.raises(ValueError, match="over the limit"):
        aml.package_length(Huge())


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("\\", b"\\\x00"),
        ("", b"\x00"),
        ("_HID", b"_HID"),
        ("\\_SB", b"\\_SB_"),
        ("^X", b"^X___"),
        ("^^AB1", b"^^AB1_"),
        ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"),
        ("A.B.C", b"\x2f\x03A___B___C___"),
    ],
)
def test_name_string(path, encoded):
    assert aml.name_string(path) == encoded


@pytest.mark.parametrize("path", ["TOOLONG", "1ABC", "abc", "A..B", "A-B", "\\\\X", "^\\X", "É"])
def test_name_string_refuses(path):
    with pytest.raises(ValueError, match="AML"):
        aml.name_string(path)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a02"),
        (0xFF, "0aff"),
        (0x100, "0b0001"),
        (0xFFFF, "0bffff"),
        (0x10000, "0c00000100"),
        (0xE7000000, "0c000000e7"),
        (1 << 32, "0e0000000001000000"),
        ((1 << 64) - 1, "0effffffffffffffff"),
    ],
)
def test_integer(value, encoded):
    assert aml.integer(value) == bytes.fromhex(encoded)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_integer_refuses(value):
    with pytest.raises(ValueError, match="not an AML integer"):
        aml.integer(value)


def test_eisa_id():
    assert aml.eisa_id("PNP0A08") == bytes.fromhex("0c41d00a08")
    assert aml.eisa_id("PNP0501") == bytes.fromhex("0c41d00501")
    for wrong in ("PNP0A0", "pnp0a08", "PNPG000"):
        with pytest.raises(ValueError):
            aml.eisa_id(wrong)


def test_string():
    assert aml.string("COM1") == b"\x0dCOM1\x00"
    with pytest.raises(ValueError, match="NUL"):
        aml.string("a\0b")
    with pytest.raises(UnicodeEncodeError):
        aml.string("é")


def test_uuid_is_mixed_endian():
    assert aml.uuid("33db4d5b-1ff7-401c-9657-7441c03dd766") == bytes.fromhex(
        "11130a105b4ddb33f71f1c4096577441c03dd766"
    )


def test_objects():
    assert aml.name("_UID", aml.integer(0)) == b"\x08_UID\x00"
    assert aml.package(aml.integer(5)) == bytes.fromhex("1204010a05")
    assert aml.buffer(b"\xaa") == bytes.fromhex("110301aa")
    assert aml.scope("\\_SB", b"\xa3") == b"\x10\x07\\_SB_\xa3"
    assert aml.device("PWRB") == b"\x5b\x82\x05PWRB"
    assert aml.method("_EVT", 1, b"\xa3", serialized=True) == b"\x14\x07_EVT\x09\xa3"
    assert aml.method("_STA", 0) == b"\x14\x06_STA\x00"


def test_field():
    region = aml.operation_region("GEDR", 0xE7000000, 1)
    assert region == b"\x5b\x80GEDR\x00\x0c\x00\x00\x00\xe7\x01"
    assert aml.field("GEDR", ("FLAG", 8)) == b"\x5b\x81\x0bGEDR\x41FLAG\x08"
    assert aml.field("GEDR", ("BIG", 64))[-6:] == b"BIG_\x40\x04"
    for bits in (0, 1 << 12):
        with pytest.raises(ValueError, match="field"):
            aml.field("GEDR", ("FLAG", bits))


def test_statements():
    assert aml.store(aml.local(0), aml.arg(1)) == b"\x70\x60\x69"
    assert aml.and_(aml.local(0), aml.integer(8)) == b"\x7b\x60\x0a\x08\x00"
    assert aml.or_(aml.local(0), aml.integer(4), aml.local(1)) == b"\x7d\x60\x0a\x04\x61"
    assert aml.equal(aml.arg(0), aml.local(7)) == b"\x93\x68\x67"
    assert aml.if_(aml.local(0), b"\xa3") == b"\xa0\x03\x60\xa3"
    assert aml.notify("PWRB", 0x80) == b"\x86PWRB\x0a\x80"
    assert aml.return_(aml.integer(1)) == b"\xa4\x01"
    assert aml.create_dword_field(aml.arg(3), 0, "STAT") == b"\x8a\x6b\x00STAT"
    for wrong in (lambda: aml.local(8), lambda: aml.arg(7), lambda: aml.arg(-1)):
        with pytest.raises(ValueError, match="there is no"):
            wrong()
