# SPDX-License-Identifier: Apache-2.0
"""From the service to its manager: ready, how it is, still alive, about to end."""

from __future__ import annotations

import os
import socket
from typing import Final

__all__ = ["notify", "watchdog_seconds"]

_PATIENCE: Final = 2.0
"""Seconds for a manager that is behind with its reading; a service must not hang with it."""


def notify(**fields: object) -> bool:
    """Tell the manager something, such as ``READY=1, STATUS="serving"``.

    Args:
        fields: Names as sd_notify(3) has them, and values. What is on several lines comes
            as one, for a line is a field of its own.

    Returns:
        Whether it was told: not where there is no manager, or where it does not listen.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    lines = (f"{name}={' '.join(str(value).split())}" for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(_PATIENCE)
        try:
            channel.connect(address)
            channel.send("\n".join(lines).encode())
        except OSError:
            return False
    return True


def watchdog_seconds() -> float | None:
    """Return how often at least this process has to send ``WATCHDOG=1``, if it has to."""
    owner = os.environ.get("WATCHDOG_PID", "")
    period = os.environ.get("WATCHDOG_USEC", "")
    if (owner and owner != str(os.getpid())) or not period.isdecimal() or not int(period):
        return None
    return int(period) / 1e6
