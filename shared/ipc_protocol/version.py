# SPDX-License-Identifier: Apache-2.0
"""What this build calls itself, and the version of the protocol it speaks."""

from __future__ import annotations

__all__ = ["BUILD_VERSION", "PROTOCOL_VERSION", "VERSION"]

VERSION = "0.1.0"
"""The distribution's version; a test holds it equal to ``pyproject.toml``."""

BUILD_VERSION = f"v{VERSION}"
"""What ``vmm.ping`` answers as ``build_version``."""

PROTOCOL_VERSION = 2
"""Changes when a message of the previous version would be misunderstood."""
