# SPDX-License-Identifier: Apache-2.0
"""What the parsers of kernel images have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["ImageError", "KernelImage", "Protocol", "Reader", "Segment"]

Reader = Callable[[int, int], bytes]
"""Reads ``size`` bytes of the file at ``offset``; fewer at its end."""


class ImageError(ValueError):
    """The file is not a kernel that can be booted; the text says what it is instead."""


class Protocol(Enum):
    """How the boot vCPU enters the kernel."""

    LINUX64 = auto()
    """The 64-bit entry of ``Documentation/arch/x86/boot.rst``."""
    PVH = auto()
    """The 32-bit entry of Xen's PVH boot ABI."""


class Segment(NamedTuple):
    """A part of the file and where it goes in RAM."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel that was found good, and the plan for loading it."""

    protocol: Protocol
    entry: int
    segments: tuple[Segment, ...]
    start: int
    """``start`` to ``end`` is the kernel's while it starts: nothing else may be there."""
    end: int
    cmdline_limit: int
    """Longest command line in bytes, without its NUL."""
    initramfs_limit: int
    """First address that the initramfs may not reach."""
    setup_header: bytes = b""
    """Of a bzImage: what the boot loader hands back in the zero page."""
