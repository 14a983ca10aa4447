# SPDX-License-Identifier: Apache-2.0
"""Folders of the host inside the testbed's machine, at the same path, over virtiofs."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.testbed.processes import running

__all__ = ["Export", "Share", "exported"]

DAEMONS = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")


class Share(NamedTuple):
    """A folder to show."""

    path: Path
    writable: bool


class Export(NamedTuple):
    """A share with a daemon that serves it."""

    share: Share
    tag: str
    socket: Path


@contextmanager
def exported(shares: list[Share], run_dir: Path, log: IO[bytes]) -> Iterator[list[Export]]:
    """Serve the shares as long as the context lasts."""
    with ExitStack() as stack:
        exports = []
        for index, share in enumerate(shares):
            export = Export(share, f"share{index}", run_dir / f"share{index}.sock")
            stack.enter_context(served(export, log))
            exports.append(export)
        yield exports


@contextmanager
def served(export: Export, log: IO[bytes]) -> Iterator[None]:
    """Run the daemon of one share, on a socket that already listens."""
    with ExitStack() as stack:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(export.socket))
            listener.listen()
            command = daemon(export.share.path, listener.fileno())
            stack.enter_context(running(command, log, fds=[listener.fileno()]))
        yield


def daemon(path: Path, listener: int) -> list[str]:
    """Return the command line of virtiofsd."""
    program = next((name for name in DAEMONS if os.access(name, os.X_OK)), None)
    program = program or shutil.which("virtiofsd")
    if program is None:
        raise FileNotFoundError("no virtiofsd: it is in Debian's qemu-system-common or virtiofsd")
    # It wants to be root to confine itself; a user is root in a namespace of his own.
    namespace = ["unshare", "--map-root-user", "--map-auto", "--"]
    mapped = [] if os.geteuid() == 0 else namespace
    help_text = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    if "--shared-dir" in help_text.stdout + help_text.stderr:
        options = [f"--shared-dir={path}", "--sandbox=chroot", "--cache=always"]
        options += ["--log-level=error"]
    else:
        options = ["-o", f"source={path}", "-o", "sandbox=chroot", "-o", "cache=always"]
        options += ["-o", "log_level=err"]
    return [*mapped, program, f"--fd={listener}", "--rlimit-nofile=0", *options]
