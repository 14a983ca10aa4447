# SPDX-License-Identifier: Apache-2.0
"""From the ``Host`` of a request to the name of a VM, as web servers have virtual hosts."""

from __future__ import annotations

import re

from ipc_protocol.names import check_name

__all__ = ["authority", "vm_name"]

# RFC 9112 section 3.2.2; of userinfo nothing is accepted (RFC 9110 section 4.2.4).
_ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_PORT = re.compile(r":[0-9]{0,5}\Z")


def authority(target: str, host: str | None) -> str:
    """Return what names the host: the target if it is absolute, the header otherwise."""
    absolute = _ABSOLUTE_FORM.match(target)
    return absolute[1] if absolute else host or ""


def vm_name(host: str, default: str) -> str:
    """Return the name of the VM that a host stands for.

    Raises:
        VmFailure: ``vm_unknown`` for a host that no VM can have.
    """
    name = _PORT.sub("", host.strip(" \t"))
    if name.isascii():  # elsewhere in Unicode there are letters that become ASCII
        name = name.lower()
    return default if name in ("", "localhost") else check_name(name)
