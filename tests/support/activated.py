# SPDX-License-Identifier: Apache-2.0
"""Run a module as a service whose sockets were opened for it (sd_listen_fds(3)).

``python -m tests.support.activated api=7,metrics=8 api_server --runtime-dir /run/velum``
"""

import fcntl
import os
import runpy
import sys

__all__: list[str] = []

_FIRST = 3


def _arrange(names: list[str], descriptors: list[int]) -> None:
    """Put descriptors where a service finds them."""
    beyond = _FIRST + len(descriptors)
    safe = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, beyond) for each in descriptors]
    for place, descriptor in enumerate(safe, _FIRST):
        os.dup2(descriptor, place)
    os.environ |= {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }


if __name__ == "__main__":
    given = [each.partition("=") for each in sys.argv[1].split(",")]
    _arrange([name for name, _, _ in given], [int(number) for _, _, number in given])
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
