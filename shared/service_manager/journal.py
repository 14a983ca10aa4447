# SPDX-License-Identifier: Apache-2.0
"""A stream into the journal under a name of its own, as sd_journal_stream_fd(3) makes one."""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["journal_stream"]

_PATH: Final = "/run/systemd/journal/stdout"


def journal_stream(identifier: str, *, priority: int = 6, path: str = _PATH) -> int:
    """Return a descriptor; each line that is written to it is an entry of the journal.

    No line can pass for another's: it has the identifier, and no prefix of it is taken for a
    priority.

    Args:
        identifier: What ``journalctl -t`` finds the lines by.
        priority: That of each line, as syslog(3) counts; 6 is information.
        path: Where the journal listens.

    Raises:
        OSError: It does not.
    """
    # The unit, which only the manager may name; whether a line begins with its priority;
    # whether each goes to syslog, the kernel's log and the console too.
    header = f"{identifier}\n\n{priority}\n0\n0\n0\n0\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(path)
        stream.shutdown(socket.SHUT_RD)
        stream.sendall(header.encode())
        return stream.detach()
