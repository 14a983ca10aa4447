# SPDX-License-Identifier: Apache-2.0
"""A small builder of ACPI Machine Language (ACPI 6.3, chapter 20).

Every function returns the encoded bytes of one construct and takes encoded bytes for its
parts, so a table reads like the ASL it stands for.
"""

from __future__ import annotations

import uuid as uuids

__all__ = [
    "and_",
    "arg",
    "buffer",
    "create_dword_field",
    "device",
    "eisa_id",
    "else_",
    "equal",
    "field",
    "if_",
    "integer",
    "local",
    "method",
    "name",
    "name_string",
    "notify",
    "operation_region",
    "or_",
    "package",
    "return_",
    "scope",
    "store",
    "string",
    "uuid",
]

SYSTEM_MEMORY = 0
NAME_SEGMENT = 4
SHORT_PACKAGE = 0x3F
MAX_PACKAGE = (1 << 28) - 1
MAX_LOCAL = 7
MAX_ARGUMENT = 6
NULL_TARGET = b"\x00"


def package_length(content: bytes) -> bytes:
    """Put a PkgLength, which counts itself, before ``content`` (20.2.4)."""
    if len(content) + 1 <= SHORT_PACKAGE:
        return bytes((len(content) + 1,)) + content
    for follow in (1, 2, 3):
        total = len(content) + 1 + follow
        if total < 1 << (4 + 8 * follow):
            lead = follow << 6 | total & 0xF
            return bytes((lead,)) + (total >> 4).to_bytes(follow, "little") + content
    raise ValueError(f"an AML package of {len(content)} bytes is over the limit {MAX_PACKAGE}")


def name_segment(text: str) -> bytes:
    """Encode one segment, padded with underscores to four characters (20.2.2)."""
    lead = text[:1]
    valid = (
        len(text) <= NAME_SEGMENT
        and text.isascii()
        and (lead == "_" or lead.isupper())
        and all(c == "_" or c.isdigit() or c.isupper() for c in text)
    )
    if not valid:
        raise ValueError(f"{text!r} is not an AML name segment")
    return text.ljust(NAME_SEGMENT, "_").encode("ascii")


def name_string(path: str) -> bytes:
    r"""Encode a path such as ``\_SB.PCI0`` (20.2.2)."""
    rest = path.lstrip("\\^")
    prefix = path[: len(path) - len(rest)]
    if prefix.strip("^") not in ("", "\\") or (len(prefix) > 1 and "\\" in prefix):
        raise ValueError(f"{path!r} is not an AML path")
    segments = [name_segment(part) for part in rest.split(".")] if rest else []
    match len(segments):
        case 0:
            encoded = b"\x00"
        case 1:
            encoded = segments[0]
        case 2:
            encoded = b"\x2e" + b"".join(segments)
        case count:
            encoded = b"\x2f" + bytes((count,)) + b"".join(segments)
    return prefix.encode("ascii") + encoded


def integer(value: int) -> bytes:
    """Encode an integer in its shortest form (20.2.3)."""
    if value in (0, 1):
        return bytes((value,))
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if 0 <= value < 1 << (8 * size):
            return bytes((prefix,)) + value.to_bytes(size, "little")
    raise ValueError(f"{value} is not an AML integer")


def string(text: str) -> bytes:
    """Encode an ASCII string."""
    if "\0" in text:
        raise ValueError("an AML string ends at its first NUL")
    return b"\x0d" + text.encode("ascii") + b"\x00"


def buffer(data: bytes) -> bytes:
    """Encode a buffer initialised with ``data``."""
    return b"\x11" + package_length(integer(len(data)) + data)


def package(*elements: bytes) -> bytes:
    """Encode a package of the elements."""
    return b"\x12" + package_length(bytes((len(elements),)) + b"".join(elements))


def eisa_id(text: str) -> bytes:
    """Encode a compressed EISA id, ``PNP0A08`` (19.3.4, EISAID)."""
    letters, digits = text[:3], text[3:]
    if len(text) != 7 or not (letters.isascii() and letters.isalpha() and letters.isupper()):  # noqa: PLR2004 - the format's length
        raise ValueError(f"{text!r} is not an EISA id")
    first, second, third = (ord(letter) - 0x40 for letter in letters)
    packed = first << 26 | second << 21 | third << 16 | int(digits, 16)
    return b"\x0c" + packed.to_bytes(4, "big")


def uuid(text: str) -> bytes:
    """Encode a UUID as the mixed-endian buffer of ``ToUUID``."""
    return buffer(uuids.UUID(text).bytes_le)


def name(path: str, value: bytes) -> bytes:
    """Encode ``Name(path, value)``."""
    return b"\x08" + name_string(path) + value


def scope(path: str, *body: bytes) -> bytes:
    """Encode ``Scope(path) {body}``."""
    return b"\x10" + package_length(name_string(path) + b"".join(body))


def device(path: str, *body: bytes) -> bytes:
    """Encode ``Device(path) {body}``."""
    return b"\x5b\x82" + package_length(name_string(path) + b"".join(body))


def method(path: str, arguments: int, *body: bytes, serialized: bool = False) -> bytes:
    """Encode ``Method(path, arguments, serialized) {body}``."""
    flags = arguments | (0x08 if serialized else 0)
    return b"\x14" + package_length(name_string(path) + bytes((flags,)) + b"".join(body))


def operation_region(path: str, start: int, length: int) -> bytes:
    """Encode ``OperationRegion(path, SystemMemory, start, length)``."""
    region = bytes((SYSTEM_MEMORY,)) + integer(start) + integer(length)
    return b"\x5b\x80" + name_string(path) + region


def field_width(bits: int) -> bytes:
    """Encode a field's width: the form of a PkgLength, but counting only bits."""
    if not 0 < bits < 1 << 12:
        raise ValueError(f"a field of {bits} bits")
    if bits <= SHORT_PACKAGE:
        return bytes((bits,))
    return bytes((1 << 6 | bits & 0xF, bits >> 4))


def field(region: str, *units: tuple[str, int]) -> bytes:
    """Encode ``Field(region, ByteAcc, NoLock, WriteAsZeros) {units}``, sizes in bits."""
    flags = 0x41
    body = b"".join(name_segment(unit) + field_width(bits) for unit, bits in units)
    return b"\x5b\x81" + package_length(name_string(region) + bytes((flags,)) + body)


def local(index: int) -> bytes:
    """Encode ``LocalN``."""
    if not 0 <= index <= MAX_LOCAL:
        raise ValueError(f"there is no Local{index}")
    return bytes((0x60 + index,))


def arg(index: int) -> bytes:
    """Encode ``ArgN``."""
    if not 0 <= index <= MAX_ARGUMENT:
        raise ValueError(f"there is no Arg{index}")
    return bytes((0x68 + index,))


def store(value: bytes, target: bytes) -> bytes:
    """Encode ``Store(value, target)``."""
    return b"\x70" + value + target


def and_(left: bytes, right: bytes, target: bytes = NULL_TARGET) -> bytes:
    """Encode the bitwise ``And(left, right, target)``."""
    return b"\x7b" + left + right + target


def or_(left: bytes, right: bytes, target: bytes = NULL_TARGET) -> bytes:
    """Encode the bitwise ``Or(left, right, target)``."""
    return b"\x7d" + left + right + target


def equal(left: bytes, right: bytes) -> bytes:
    """Encode ``LEqual(left, right)``."""
    return b"\x93" + left + right


def if_(predicate: bytes, *body: bytes) -> bytes:
    """Encode ``If (predicate) {body}``."""
    return b"\xa0" + package_length(predicate + b"".join(body))


def else_(*body: bytes) -> bytes:
    """Encode the ``Else {body}`` of the ``If`` before it."""
    return b"\xa1" + package_length(b"".join(body))


def create_dword_field(source: bytes, offset: int, path: str) -> bytes:
    """Encode ``CreateDWordField(source, offset, path)``."""
    return b"\x8a" + source + integer(offset) + name_string(path)


def notify(path: str, value: int) -> bytes:
    """Encode ``Notify(path, value)``."""
    return b"\x86" + name_string(path) + integer(value)


def return_(value: bytes) -> bytes:
    """Encode ``Return(value)``."""
    return b"\xa4" + value
