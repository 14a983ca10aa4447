# SPDX-License-Identifier: Apache-2.0
"""Between typed values and bytes: msgpack with limits, strictly converted.

Whatever arrives may come from an attacker. Its shape is checked token by token before
the first object is made, so that four megabytes cannot become a gigabyte of empty maps
and no nesting can exhaust a stack; then msgpack decodes and msgspec converts.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgpack
import msgspec

from ipc_protocol.errors import ErrorCode, VmFailure

__all__ = [
    "MAX_DEPTH",
    "MAX_ITEMS",
    "MAX_MESSAGE",
    "MAX_STRING",
    "convert",
    "decode",
    "encode",
    "malformed",
    "prepare",
    "to_plain",
]

MAX_MESSAGE: Final = (4 << 20) + (64 << 10)
"""Bytes of a message: the API's largest body and room for the envelope."""
MAX_DEPTH: Final = 16
"""Containers within containers."""
MAX_ITEMS: Final = 1 << 16
"""Values in one message, map keys and containers counted."""
MAX_STRING: Final = 1 << 20
"""Bytes of one string or byte string."""

_CHILDREN: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""array16/32 and map16/32: bytes of the count, values per entry."""
_STRINGS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""bin8/16/32 and str8/16/32: bytes of the length."""
_NUMBERS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FLOATS: Final = {0xCA: 4, 0xCB: 8}
_CONSTANTS: Final = (0xC0, 0xC2, 0xC3)


def _scalar_sizes() -> bytes:
    """Tabulate tag -> bytes of the whole token; 0 where the tag alone does not say."""
    sizes = bytearray(256)
    for tag in (*range(0x80), *range(0xE0, 0x100), *_CONSTANTS):
        sizes[tag] = 1
    for tag in range(0xA0, 0xC0):
        sizes[tag] = 1 + (tag & 0x1F)
    for tag, width in (_NUMBERS | _FLOATS).items():
        sizes[tag] = 1 + width
    return bytes(sizes)


_SCALARS: Final = _scalar_sizes()


def malformed(reason: str) -> VmFailure:
    """Return the failure for a message that is not what it should be."""
    return VmFailure(ErrorCode.MALFORMED_MESSAGE, f"malformed message: {reason}")


def encode(value: object, *, lossy: bool = False) -> bytes:
    """Return the bytes of a value made of structs, enums and plain types.

    Args:
        value: What to send.
        lossy: Write text that is no Unicode (a path, say) with backslash escapes instead
            of refusing it.

    Raises:
        VmFailure: ``malformed_message`` if the other side would have to refuse it.
    """
    try:
        data: bytes = msgpack.packb(
            to_plain(value), unicode_errors="backslashreplace" if lossy else "strict"
        )
    except (ValueError, OverflowError) as ex:
        raise malformed(f"it cannot be encoded: {ex}") from ex
    _check_shape(data)
    return data


def to_plain(value: object) -> Any:
    """Return a value made of structs, enums and plain types as plain types alone.

    Raises:
        VmFailure: ``malformed_message`` if there is something else in it.
    """
    try:
        return msgspec.to_builtins(value, builtin_types=(bytes,))
    except (ValueError, TypeError, OverflowError, RecursionError) as ex:
        raise malformed(f"it cannot be encoded: {ex}") from ex


def decode(data: bytes) -> Any:
    """Return the plain value in one message.

    Raises:
        VmFailure: ``malformed_message``.
    """
    _check_shape(data)
    try:
        return msgpack.unpackb(
            data,
            object_pairs_hook=_object,
            max_str_len=MAX_STRING,
            max_bin_len=MAX_STRING,
        )
    # The unpacker's own exceptions are ValueErrors, as bad UTF-8 is.
    except ValueError as ex:
        raise malformed(str(ex)) from ex


def convert(value: object, target: Any) -> Any:
    """Return a decoded value as the type it should be.

    Raises:
        VmFailure: ``malformed_message``, saying where it is something else.
    """
    try:
        return msgspec.convert(value, target, strict=True)
    except msgspec.ValidationError as ex:
        raise malformed(str(ex)) from ex


def prepare(*types: Any) -> None:
    """Have msgspec find out all about types, once and before there are threads.

    It does so when a type is first converted to, notes the type as known before it is done, and
    runs Python meanwhile: a second thread that comes then takes the process down.
    """
    for each in types:
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert(None, each)


def _object(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in a map")
    if not all(isinstance(key, str) for key in result):
        raise ValueError("a key is not a string")
    return result


def _check_shape(data: bytes) -> None:
    if len(data) > MAX_MESSAGE:
        raise malformed(f"it has {len(data)} bytes, at most {MAX_MESSAGE} are allowed")
    try:
        end = _walk(data)
    except IndexError:
        raise malformed("it is cut short") from None
    if end != len(data):
        raise malformed("it is cut short" if end > len(data) else "more follows its end")


def _walk(data: bytes) -> int:
    """Return where the value at the start of the data ends."""
    due = [1]  # values still to come, one count for each open container
    position = 0
    items = 0
    while due:
        if due[-1] == 0:
            due.pop()
            continue
        due[-1] -= 1
        items += 1
        tag = data[position]
        if size := _SCALARS[tag]:
            position += size
            continue
        position += 1
        if width := _STRINGS.get(tag):
            position += width + int.from_bytes(data[position : position + width], "big")
            continue
        if tag in _CHILDREN:
            width, each = _CHILDREN[tag]
            children = each * int.from_bytes(data[position : position + width], "big")
            position += width
        elif tag < 0xA0:  # noqa: PLR2004 - fixmap is 0x80 to 0x8f, fixarray 0x90 to 0x9f
            children = (tag & 0x0F) << (tag < 0x90)  # noqa: PLR2004 - as above
        else:
            raise malformed(f"tag {tag:#x} is an extension or no msgpack at all")
        # Counted before any of them is seen: the count alone may be the attack.
        if items + children > MAX_ITEMS:
            raise malformed(f"it has more than {MAX_ITEMS} values")
        due.append(children)
        if len(due) > MAX_DEPTH + 1:
            raise malformed(f"it is nested more than {MAX_DEPTH} deep")
    return position
