# SPDX-License-Identifier: Apache-2.0
"""Archives in the "newc" cpio format, which the kernel unpacks as an initramfs."""

import stat
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Entry", "archive", "directory", "file", "script"]

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


class Entry(NamedTuple):
    """One member of an archive, owned by root."""

    path: str
    mode: int
    data: bytes = b""


def directory(path: str) -> Entry:
    """Return a directory entry."""
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes) -> Entry:
    """Return an entry for a plain file."""
    return Entry(path, stat.S_IFREG | 0o644, data)


def script(path: str, data: bytes | str) -> Entry:
    """Return an entry for a program."""
    return Entry(path, stat.S_IFREG | 0o755, data.encode() if isinstance(data, str) else data)


def padded(data: bytes) -> bytes:
    """Fill up to the four-byte boundary at which the next part starts."""
    return data + b"\0" * (-len(data) % 4)


def member(inode: int, entry: Entry) -> bytes:
    """Encode one member: thirteen hexadecimal numbers, the name, the data."""
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    owner = device = changed = check = 0
    fields = (
        *(inode, entry.mode, owner, owner, links, changed, len(entry.data)),
        *(device, device, device, device, len(name), check),
    )
    header = MAGIC + b"".join(b"%08x" % field for field in fields)
    return padded(header + name) + padded(entry.data)


def archive(entries: Iterable[Entry]) -> bytes:
    """Return a whole archive; several of them may follow each other in one initramfs."""
    members = [member(inode, entry) for inode, entry in enumerate(entries, 1)]
    members.append(member(0, Entry(TRAILER, 0)))
    return b"".join(members)
