# SPDX-License-Identifier: Apache-2.0
"""Connections that other users of the host have made."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["connect_as", "open_directory"]

_CONNECT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as ex:
    sys.exit(ex.strerror)
socket.send_fds(socket.socket(fileno=0), [b"."], [connection.fileno()])
"""


def connect_as(
    path: Path, uid: int, *, gid: int | None = None, groups: tuple[int, ...] = ()
) -> socket.socket:
    """Have a process of that user connect, and return the connection.

    Raises:
        ConnectionError: It could not; with the reason.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The interpreter itself: not everybody may enter the directory of the environment.
        result = subprocess.run(
            [os.path.realpath(sys.executable), "-I", "-S", "-c", _CONNECT, str(path)],
            stdin=theirs,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            cwd="/",
            user=uid,
            group=uid if gid is None else gid,
            extra_groups=groups,
        )
        if result.returncode:
            raise ConnectionError(result.stderr.strip())
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Make a directory that everybody may enter, as pytest's are not."""
    path = Path(tempfile.mkdtemp(prefix="velum-test-"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)
