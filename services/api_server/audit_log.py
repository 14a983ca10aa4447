# SPDX-License-Identifier: Apache-2.0
"""Where it is kept who did what: a file, the journal, or standard error."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from api_server.failure import failure
from api_server.log_lines import LogFormat, encoder
from ipc_protocol.errors import ErrorCode

__all__ = ["AuditFile", "AuditJournal", "AuditSink", "AuditStream", "open_audit"]

JOURNAL = "/run/systemd/journal/socket"
_NOTICE = 5
"""syslog(3): normal, but worth a look."""

Fields = Mapping[str, object]


class AuditSink(Protocol):
    """Where the lines go; used by all threads."""

    def write(self, fields: Fields) -> None:
        """Keep one line, or raise ``OSError``."""


class AuditStream:
    """Standard error, beside the log: under systemd that is the journal."""

    def __init__(self, form: LogFormat) -> None:
        self._encode = encoder(form)

    def write(self, fields: Fields) -> None:
        """Write one line."""
        sys.stderr.write(f"{self._encode({**fields, 'logger': 'audit'})}\n")


class AuditFile:
    """A file that is only ever appended to, and that may be rotated away at any time.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, form: LogFormat) -> None:
        self._path = path
        self._encode = encoder(form)
        self._lock = threading.Lock()
        self._file = _open(path)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def write(self, fields: Fields) -> None:
        """Append one line, whole."""
        line = f"{self._encode(fields)}\n".encode()
        with self._lock:
            self._follow()
            written = os.write(self._file, line)
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes could be written")

    def _follow(self) -> None:
        """Open the file anew when the path no longer leads to it."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._path.lstat(), os.fstat(self._file)):
                return
        successor = _open(self._path)
        os.close(self._file)
        self._file = successor


class AuditJournal:
    """The journal itself, with every value as a field of its own that it can be asked for."""

    def __init__(self, path: str = JOURNAL) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def write(self, fields: Fields) -> None:
        """Send one entry (the journal's native protocol: a ``KEY=value`` a line)."""
        line = encoder(LogFormat.LOGFMT)(fields)
        entry = {
            "MESSAGE": line,
            "PRIORITY": _NOTICE,
            "SYSLOG_IDENTIFIER": "velum-audit",
            **{f"VELUM_{key.upper()}": value for key, value in fields.items()},
        }
        # A line feed would begin another field; none of our values keeps one.
        data = "".join(
            f"{key}={str(value).translate(_ONE_LINE)}\n"
            for key, value in entry.items()
            if value is not None
        )
        self._socket.sendto(data.encode(errors="backslashreplace"), self._path)


_ONE_LINE = {ord("\n"): " ", 0: " "}


def open_audit(where: str, form: LogFormat) -> AuditSink:
    """Open what ``--audit-log`` names: ``stderr``, ``journal``, or a file.

    Raises:
        ApiFailure: ``file_unavailable``.
    """
    if where == "stderr":
        return AuditStream(form)
    if where == "journal":
        if not Path(JOURNAL).is_socket():
            message = f"there is no journal at {JOURNAL}: give --audit-log a file, or stderr"
            raise failure(ErrorCode.FILE_UNAVAILABLE, message)
        return AuditJournal()
    try:
        return AuditFile(Path.cwd() / where, form)
    except OSError as ex:
        message = f"the audit log {where} cannot be opened: {ex.strerror}"
        raise failure(ErrorCode.FILE_UNAVAILABLE, message) from ex


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, 0o640)
