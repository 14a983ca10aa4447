# SPDX-License-Identifier: Apache-2.0
"""Child processes that never outlive the one that started them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

__all__ = ["running"]


@contextmanager
def running(
    command: Sequence[str], log: IO[bytes], *, fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon that inherits `fds` and is killed when the context ends.

    The kernel kills it as well when this process dies without coming here.
    """
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=fds,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
