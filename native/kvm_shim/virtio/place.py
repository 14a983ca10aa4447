# SPDX-License-Identifier: Apache-2.0
"""Where a PCI device is and what it is called."""

from typing import NamedTuple

from kvm_shim.device import Device

__all__ = ["Place"]


class Place(NamedTuple):
    """A place on the PCI bus.

    Attributes:
        bus: The bus.
        id: 1 to 31 characters: the source of the device's events.
        slot: 1 to 31.
        bar: Where BAR 0 starts out, aligned to its size; 0 for none.
    """

    bus: Device
    id: str
    slot: int
    bar: int
