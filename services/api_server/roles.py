# SPDX-License-Identifier: Apache-2.0
"""What a peer may do, from the least to the most."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Role"]


class Role(IntEnum):
    """Each may do what the ones before it may; a peer without one may do nothing."""

    VIEWER = 1
    """Reads: state, configuration, counters, jobs, events, metrics."""
    OPERATOR = 2
    """The life of VMs that are there, and nothing that names a file of the host."""
    ADMIN = 3
    """Everything: what files and devices of the host a VM gets, and whether there is a worker."""

    def __str__(self) -> str:
        return self.name.lower()
