# SPDX-License-Identifier: Apache-2.0
"""What there is to say about a Debian that the testbed's machine boots."""

from dataclasses import dataclass

__all__ = ["System"]


@dataclass(frozen=True)
class System:
    """A root disk and how it is entered."""

    name: str
    """Of its disk in the cache."""
    packages: tuple[str, ...]
    """Beside the essential ones."""
    init: str
    """What the initramfs hands over to."""
    repository: tuple[str, ...] = ()
    """Packages that are not installed and that apt can install without a network, with all that
    they depend on. A system with some is as a user's: nothing is left out of packages."""
    words: str = ""
    """More for the kernel's command line."""
